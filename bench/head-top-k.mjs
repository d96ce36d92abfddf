// One row of hidden states, exact top 50, float32 and bf16 heads, against onnxruntime-node's MatMul + TopK in float32.
// node bench/head-top-k.mjs [f32|bf16] [151936x896|50257x768|smollm2]

import { dot, equal, fromBf16, headOf, open, query, toBf16 } from "./heads.mjs";
import {
  assert,
  ceilings,
  interleave,
  median,
  normals,
  processor,
  report,
  rival,
  root,
  threads,
  verdict,
} from "./lib.mjs";
import { headModel } from "./onnx.mjs";

const K = 50;
const [type = "f32", shape = "151936x896"] = process.argv.slice(2);
const ort = await rival("onnxruntime-node");
console.log(processor());

const { V, D, weight, rows, what } =
  shape === "smollm2" ? await smollm2Head() : random(...shape.split("x").map(Number));
const bits = type === "bf16" ? toBf16(weight) : undefined;
const values = bits ? fromBf16(bits) : weight; // the rival gets the same numbers

const device = await open();
const head = await headOf(device, bits ?? weight, V, D, type);
const options = { intraOpNumThreads: threads, executionMode: "sequential" };
const session = await ort.InferenceSession.create(headModel(values, V, D, K), options);
const probe = await ceilings(V * D * (type === "bf16" ? 2 : 4));

// Right answers first: equal to our own full pass in index and bits, and the rival's to rounding.
let screened = 0;
let fellBack = 0;
for (const row of rows.slice(0, 8)) {
  const mine = await device.ask(head, row, query({ topK: K }));
  const full = await device.ask(head, row, query({ topK: K, logSumExp: true }));
  const theirs = await session.run({ hidden: new ort.Tensor("float32", row, [1, D]) });
  assert(
    equal(mine.topIds, full.topIds) && equal(mine.topLogits, full.topLogits),
    "screened top 50 is not the full pass's",
  );
  const size = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
  for (let i = 0; i < K; i++) {
    const exact = dot(values, row, mine.topIds[i], D);
    assert(Math.abs(mine.topLogits[i] - exact) < 1e-5 * size, `logit ${mine.topLogits[i]}, exactly ${exact}`);
    assert(Math.abs(mine.topLogits[i] - theirs.values.data[i]) < 1e-5 * size, "onnxruntime's values differ");
  }
  screened += mine.screened;
  fellBack += mine.fellBack;
}

let turn = 0;
const row = () => rows[turn++ % rows.length];
const times = await interleave({
  "onnxruntime-node MatMul + TopK, f32": () =>
    session.run({ hidden: new ort.Tensor("float32", row(), [1, D]) }),
  "lmhead top 50": () => device.ask(head, row(), query({ topK: K })),
  "lmhead top 50 and log-sum-exp (full pass)": () =>
    device.ask(head, row(), query({ topK: K, logSumExp: true })),
  "reading the stored weights once": probe.read,
});
report(`${V}×${D} (${what}), stored as ${type}, one row, top ${K}`, times);
const ratio = (mine) => median(times["onnxruntime-node MatMul + TopK, f32"]) / median(times[mine]);
console.log(`  rows screened ${screened}, fallen back ${fellBack}, of ${Math.min(8, rows.length)}`);
if (type === "f32") verdict("onnxruntime's time / top 50's", ratio("lmhead top 50"), 2.8);
else
  verdict(
    "onnxruntime's time / top 50 and log-sum-exp's",
    ratio("lmhead top 50 and log-sum-exp (full pass)"),
    1.6,
  );
const pass = median(times["lmhead top 50 and log-sum-exp (full pass)"]);
verdict(
  "full pass, share of the read bandwidth",
  median(times["reading the stored weights once"]) / pass,
  0.8,
);
await probe.close();
await device.close();
process.exit(0); // onnxruntime keeps threads

function random(V, D) {
  const rows = Array.from({ length: 16 }, (_, i) => normals(D, 100 + i, 1));
  return { V, D, weight: normals(V * D, 1, 0.05), rows, what: "random weights and hidden states" };
}

/** SmolLM2's own vocabulary rows, widened to float32, and real hidden states. */
async function smollm2Head() {
  const { LanguageModel } = await import("../dist/node.js");
  const folder = `${root}../shared/data`;
  const { readFileSync } = await import("node:fs");
  const model = await LanguageModel.load(
    `${folder}/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf`,
  );
  const { V, D, weight } = await widened(model);
  const { score } = JSON.parse(readFileSync(`${folder}/models/smollm2-135m-instruct/expected.json`, "utf8"));
  const { hidden } = await model.hidden({ ids: score[0].ids });
  await model.close();
  const rows = Array.from({ length: 16 }, (_, i) => hidden.slice((i + 1) * 15 * D, (i + 1) * 15 * D + D));
  return { V, D, weight, rows, what: "SmolLM2's own rows and hidden states" };
}

async function widened(model) {
  const { matrix } = model.head.weights;
  const ids = Int32Array.from({ length: matrix.rows }, (_, i) => i);
  return { V: matrix.rows, D: matrix.cols, weight: await matrix.gather(ids) };
}
