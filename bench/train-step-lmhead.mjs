// lmhead's step of the GPT of train-step.mjs, by the protocol of train_step.py: a line on stdin takes a step, and is
// answered with the loss and the peak memory. node bench/train-step-lmhead.mjs '[L, D, V, T, B, H]'
import { createInterface } from "node:readline";
import { bodyProgram } from "../dist/body/transformer.js";
import { AdamW } from "../dist/index.js";
import { openDevice } from "../dist/kernels/open.js";
import { adamwScalars } from "../dist/train/optimizers/adamw.js";
import { normals, threads } from "./lib.mjs";

const [L, D, V, T, B, H] = JSON.parse(process.argv[2]);
const hyper = { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
const device = await openDevice({ device: "wasm", threads });
const base = process.memoryUsage.rss();
const peak = () => process.resourceUsage().maxRSS * 1024 - base;
const matrices = [];
const vectors = [];
const uploaded = async (name, rows, cols, data) => {
  const read = async (first, count) =>
    data ? new Uint8Array(data.buffer, first * cols * 4, count * cols * 4) : new Uint8Array(count * cols * 4);
  return device.matrix({ name, rows, cols, type: "f32", read });
};
const matrix = async (rows, cols) => {
  const value = await uploaded("w", rows, cols, normals(rows * cols, matrices.length + 1, 0.02));
  const [gradient, m, v] = await Promise.all(["gradient", "m", "v"].map((n) => uploaded(n, rows, cols)));
  matrices.push({ value, gradient, m, v });
  return value;
};
const vector = (length, value) => {
  vectors.push(new Float32Array(length).fill(value));
  return vectors.at(-1);
};
const norm = () => ({ kind: "layer", weight: vector(D, 1), bias: vector(D, 0), eps: 1e-5 });
const linear = async (o, i) => ({ weight: await matrix(o, i), bias: vector(o, 0) });
const table = await matrix(V, D);
const layers = [];
for (let l = 0; l < L; l++)
  layers.push({
    arrangement: "serial",
    attention: {
      heads: H,
      kvHeads: H,
      headDim: D / H,
      scale: 1 / Math.sqrt(D / H),
      qkv: [await linear(3 * D, D)],
      output: await linear(D, D),
      normIn: norm(),
    },
    mlp: {
      activation: "geluTanh",
      up: await linear(4 * D, D),
      down: await linear(D, 4 * D),
      normIn: norm(),
    },
  });
const positions = { table: await matrix(T, D), offset: 0 };
const spec = { hiddenSize: D, maxPositions: T, positions, layers, finalNorm: norm() };
const program = bodyProgram(spec, { embed: { table, scale: 1 } });

const N = B * T;
const ids = Int32Array.from({ length: N }, (_, i) => (i * 7919) % V);
const targets = Int32Array.from({ length: N }, (_, i) => ((i + 1) * 7919) % V);
const coefficients = new Float32Array(N).fill(1 / N);
const head = { matrix: table, vocabSize: V, scale: 1 };
const names = vectors.map((_, i) => `v${i}`);
const small = new AdamW(
  vectors.map((v, i) => ({ name: names[i], shape: [v.length], kind: "vector" })),
  hyper,
);
const gradients = new Map(vectors.map((v) => [v, new Float32Array(v.length)]));
const into = { matrices: new Map(matrices.map((m) => [m.value, m.gradient])), vectors: gradients };
let taken = 0;

async function step() {
  await device.zero([...into.matrices.values()]);
  for (const gradient of gradients.values()) gradient.fill(0);
  const tape = await device.record(program, { lengths: Array(B).fill(T), ids });
  const weight = into.matrices.get(table);
  const asked = { ids: targets, perRow: 1, coefficients, gradients: { hidden: true, weight } };
  const loss = await device.loss(head, tape.output("hidden"), asked);
  await tape.backward({ buffer: "hidden", gradient: loss.dHidden }, into);
  tape.free();
  let squares = (await device.squares([...into.matrices.values()])).reduce((a, b) => a + b, 0);
  for (const gradient of gradients.values()) for (const x of gradient) squares += x * x;
  const factor = Math.min(1, Math.fround(1 / (Math.sqrt(squares) + 1e-6)));
  const scalars = adamwScalars({ ...hyper, weightDecay: 0.01, learningRate: 1e-3, step: ++taken });
  await device.update(matrices.map((update) => ({ kind: "adamw", ...update, scalars, factor })));
  for (const gradient of gradients.values()) for (const i of gradient.keys()) gradient[i] *= factor;
  const named = (pick) => new Map(vectors.map((v, i) => [names[i], pick(v)]));
  small.step(
    named((v) => v),
    named((v) => gradients.get(v)),
    1e-3,
  );
  await device.changed(vectors);
  return loss.logSumExp.reduce((sum, lse, n) => sum + (lse - loss.targetLogits[n]) / N, 0);
}

console.log("ready");
for await (const _ of createInterface({ input: process.stdin })) console.log(await step(), peak());
process.exit(0);
