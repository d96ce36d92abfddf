// The head of a language model is a linear layer: PyTorch's nn.Linear(768, 50000), then a softmax. In three lines:
import { LinearHead } from "lmhead";

const head = await LinearHead.random({ hiddenSize: 768, vocabSize: 50000, seed: 0 });
const [answer] = await head.ask(new Float32Array(768).fill(0.1), { topK: 3, logSumExp: true });
console.table(answer.topK.map(({ id, logit }) => ({ id, logit, prob: Math.exp(logit - answer.logSumExp) })));
