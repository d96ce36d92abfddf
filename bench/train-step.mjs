// One AdamW step (forward, loss, backward, clipping, update) of a GPT of 4 layers, D=256, V=4096, T=128, batch 16, tied,
// against PyTorch and jax-js, each in a process of its own. node bench/train-step.mjs; LMHEAD_PYTHON names a Python with
// torch (default: python3).
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { bodyProgram } from "../dist/body/transformer.js";
import { AdamW } from "../dist/index.js";
import { openDevice } from "../dist/kernels/open.js";
import { adamwScalars } from "../dist/train/optimizers/adamw.js";
import { assert, interleave, median, normals, report, root, threads, verdict } from "./lib.mjs";

const [L, D, V, T, B, H] = [4, 256, 4096, 128, 16, 4];
const hyper = { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
const device = await openDevice({ device: "wasm", threads });
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
let peak = 0;

async function step() {
  await device.zero([...into.matrices.values()]);
  for (const gradient of gradients.values()) gradient.fill(0);
  const tape = await device.record(program, { lengths: Array(B).fill(T), ids });
  const weight = into.matrices.get(table);
  const asked = { ids: targets, perRow: 1, coefficients, gradients: { hidden: true, weight } };
  const loss = await device.loss(head, tape.output("hidden"), asked);
  await tape.backward({ buffer: "hidden", gradient: loss.dHidden }, into);
  peak = Math.max(peak, process.memoryUsage.rss());
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

const python = process.env.LMHEAD_PYTHON ?? "python3";
const torch = await rival(python, [join(root, "bench/train_step.py"), String(threads)]);
assert(torch, "Python with torch is missing: name one in LMHEAD_PYTHON");
const shape = JSON.stringify([L, D, V, T, B, H]);
const jaxScript = join(root, "bench/train-step-jax.mjs");
const jax = await rival(process.execPath, [jaxScript, shape, "1"]);
const jaxThreads = await rival(process.execPath, [jaxScript, shape, String(threads)]);
assert(jax && jaxThreads, "jax-js is missing: run `npm ci`");
console.log(`PyTorch ${torch.ready.split(" ")[1]}`);
const before = process.memoryUsage.rss();
// Weights are drawn by different generators: the first losses are all near ln V, and all must fall alike.
const losses = { lmhead: [], PyTorch: [], "jax-js": [], "jax-js with threads": [] };
for (let i = 0; i < 5; i++) {
  losses.lmhead.push(await step());
  losses.PyTorch.push((await torch.run()).loss);
  losses["jax-js"].push((await jax.run()).loss);
  losses["jax-js with threads"].push((await jaxThreads.run()).loss);
}
for (const [name, list] of Object.entries(losses)) {
  console.log(`losses of ${name}: ${list.map((x) => x.toFixed(3))}`);
  list.forEach((x, i) => {
    assert(
      Math.abs(x - losses.lmhead[i]) < 0.15,
      `loss of step ${i}: ${name} ${x}, lmhead ${losses.lmhead[i]}`,
    );
  });
}
const contestants = {
  "PyTorch, CPU": torch.run,
  "jax-js, as Node has it: 1 thread": jax.run,
  [`jax-js, given a Worker: ${threads} threads`]: jaxThreads.run,
  lmhead: step,
};
const times = await interleave(contestants, 5, 1);
report(`an AdamW step of a GPT: ${L} layers, D=${D}, V=${V}, T=${T}, batch ${B}`, times);
const [torchRatio, jaxRatio, jaxThreadsRatio] = Object.values(times).map(
  (list) => median(list) / median(times.lmhead),
);
verdict("PyTorch's time / lmhead's (wanted with AVX-512; with AVX2 0.67)", torchRatio, 0.33);
verdict("jax-js's time / lmhead's", jaxRatio, 3);
verdict("jax-js's time with threads / lmhead's", jaxThreadsRatio, 3);
const mib = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`;
const others = [(await torch.run()).peak, (await jax.run()).peak];
console.log(
  `  peak above the start: PyTorch ${mib(others[0])}; jax-js ${mib(others[1])}; lmhead ${mib(peak - before)} more, ${mib(device.memory)} of weights and state`,
);
for (const other of [torch, jax, jaxThreads]) other.end();
await device.close();
process.exit(0);

/** A rival's process: it says when it is ready; for each line it takes a step, and answers with the loss and its peak memory. */
async function rival(command, args) {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  child.on("error", () => {}); // no such program: it then has no lines either
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ready = await lines.next();
  if (ready.done) return undefined;
  return {
    ready: ready.value,
    async run() {
      child.stdin.write("\n");
      const [loss, peak] = (await lines.next()).value.split(" ").map(Number);
      return { loss, peak };
    },
    end: () => child.stdin.end(),
  };
}
