// Several questions about several hidden states, all in one pass. Nothing of the size rows × vocabulary is ever made.
import { LinearHead } from "lmhead";

const [V, D, N] = [5000, 64, 3];
const weight = Float32Array.from({ length: V * D }, (_, i) => Math.sin(i * 12.9898) * 0.3);
const hidden = Float32Array.from({ length: N * D }, (_, i) => Math.cos(i * 78.233));
const head = await LinearHead.fromArrays({ weight, vocabSize: V, hiddenSize: D, softcap: 30 });

const answer = await head.ask(hidden, {
  topK: 2,
  logProbs: [7, 42], // of every row; or [[7, 42], [8, 43], [9, 44]], a list for each
  rank: [7],
  entropy: true,
  sample: { seed: 1, temperature: 0.8 },
});
for (let row = 0; row < N; row++)
  console.log(
    `row ${row}: likeliest ${answer.topK[row].ids.join(" and ")},`,
    `log-probability of 7 ${answer.logProbs[row][0].toFixed(3)} (rank ${answer.rank[row][0]}),`,
    `entropy ${answer.entropy[row].toFixed(3)} nats, a sample ${answer.sample.ids[row]}`,
  );
await head.close();
