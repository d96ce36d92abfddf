// 64 rows of hidden states, log-probabilities of given ids, 50257×768 float32, against onnxruntime-web (WebAssembly).

import { headOf, open, query } from "./heads.mjs";
import { assert, ceilings, interleave, median, normals, report, rival, threads } from "./lib.mjs";
import { logProbModel } from "./onnx.mjs";

const [N, V, D] = [64, 50257, 768];
const weight = normals(V * D, 1, 0.05);
const hidden = normals(N * D, 2);
const ids = Int32Array.from({ length: N }, (_, n) => (n * 7919 + 13) % V);

const device = await open();
const head = await headOf(device, weight, V, D);
const ort = await rival("onnxruntime-web");
ort.env.wasm.numThreads = threads;
const session = await ort.InferenceSession.create(logProbModel(weight, V, D), {
  executionProviders: ["wasm"],
});
const feeds = {
  hidden: new ort.Tensor("float32", hidden, [N, D]),
  ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [N, 1]),
};
const probe = await ceilings(V * D * 4, 2 * N * V * D);

const ours = () => device.ask(head, hidden, query({ logSumExp: true, targets: { ids, perRow: 1 } }));
const answer = await ours();
const theirs = (await session.run(feeds)).logProbs.data;
for (let n = 0; n < N; n++) {
  const mine = answer.targetLogits[n] - answer.logSumExp[n];
  assert(Math.abs(mine - theirs[n]) < 1e-4, `row ${n}: ${mine}, onnxruntime ${theirs[n]}`);
}

const times = await interleave(
  {
    "onnxruntime-web, wasm": () => session.run(feeds),
    lmhead: ours,
    "f32 SIMD ceiling of the product alone": probe.peak,
  },
  5,
  1,
);
report(`${N} rows, log-probabilities of given ids, ${V}×${D} f32`, times, {
  what: "onnxruntime-web's time / lmhead's",
  ratio: median(times["onnxruntime-web, wasm"]) / median(times.lmhead),
  atLeast: 1.7,
});
await probe.close();
await device.close();
process.exit(0);
