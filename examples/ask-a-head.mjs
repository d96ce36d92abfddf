// Several questions about several hidden states in one pass; nothing of the size rows × vocabulary is ever made.
import { LinearHead } from "lmhead";

const [V, D, N] = [5000, 64, 3];
const weight = Float32Array.from({ length: V * D }, (_, i) => Math.sin(i * 12.9898) * 0.3);
const hidden = Float32Array.from({ length: N * D }, (_, i) => Math.cos(i * 78.233));
const head = await LinearHead.fromArrays({ weight, vocabSize: V, hiddenSize: D, softcap: 30 });
const answers = await head.ask(hidden, {
  topK: 2,
  logProbs: [7, 42],
  rank: [7],
  logSumExp: true,
  entropy: true,
});
for (const [row, answer] of answers.entries()) console.log(row, answer);
