// The head of a language model is a linear layer, nn.Linear(768, 50000) in PyTorch, and a softmax. In three lines:
import { LinearHead } from "lmhead";

const head = await LinearHead.random({ hiddenSize: 768, vocabSize: 50000, seed: 0 });
const { topK, logSumExp } = await head.ask(new Float32Array(768).fill(0.1), { topK: 3, logSumExp: true });
console.log(topK[0].ids, topK[0].logProbs, logSumExp[0]);
