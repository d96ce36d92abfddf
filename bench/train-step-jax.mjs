// jax-js's step of the GPT of train-step.mjs, by the protocol of train_step.py. Two `jit`s: forward with backward, and
// AdamW. Between them the table's rows are looked up and their gradients added back, for jax-js 0.1.25 refuses a `scatter`
// in a jit. It makes threads of the web's `Worker`. Node has none, so that jax-js has one thread there; with a number of
// threads above 1, it gets such a Worker here. node bench/train-step-jax.mjs '[L, D, V, T, B, H]' threads
import { resolveObjectURL } from "node:buffer";
import { createInterface } from "node:readline";
import { Worker as Thread } from "node:worker_threads";
import { normals } from "./lib.mjs";

/** As much of the web's Worker as jax-js uses, on a thread of Node. */
class Worker {
  #thread;

  constructor(url) {
    const source = resolveObjectURL(url).text();
    this.#thread = source.then((code) => {
      const web = `const { parentPort } = require("node:worker_threads");
        const self = globalThis; const postMessage = (message) => parentPort.postMessage(message);
        parentPort.on("message", (data) => self.onmessage({ data }));\n`;
      const thread = new Thread(web + code, { eval: true });
      thread.on("message", (data) => this.onmessage?.({ data }));
      thread.on("error", (error) => this.onerror?.(error));
      return thread;
    });
  }

  postMessage(message) {
    this.#thread.then((thread) => thread.postMessage(message));
  }
}

const threads = Number(process.argv[3]);
if (threads > 1) {
  globalThis.Worker = Worker;
  const navigator = { value: { hardwareConcurrency: threads }, configurable: true };
  Object.defineProperty(globalThis, "navigator", navigator);
}
const { jit, nn, numpy: np, tree, valueAndGrad, vjp } = await import("@jax-js/jax");
const [L, D, V, T, B, H] = JSON.parse(process.argv[2]);
const ids = Int32Array.from({ length: B * T }, (_, i) => (i * 7919) % V);
const targets = Int32Array.from({ length: B * T }, (_, i) => ((i + 1) * 7919) % V);

const base = process.memoryUsage.rss();
const peak = () => process.resourceUsage().maxRSS * 1024 - base;
let seed = 0;
const matrix = (rows, cols) => np.array(normals(rows * cols, ++seed, 0.02), { shape: [rows, cols] });
const norm = () => ({ weight: np.ones([D]), bias: np.zeros([D]) });
const linear = (o, i) => ({ weight: matrix(o, i), bias: np.zeros([o]) });
const block = () => ({
  normIn: norm(),
  qkv: linear(3 * D, D),
  out: linear(D, D),
  normMlp: norm(),
  up: linear(4 * D, D),
  down: linear(D, 4 * D),
});
let parameters = { table: matrix(V, D), positions: matrix(T, D), blocks: [], last: norm() };
for (let l = 0; l < L; l++) parameters.blocks.push(block());

const normed = (x, { weight, bias }) => {
  const centred = x.ref.sub(np.mean(x, -1, { keepdims: true }));
  const variance = np.mean(np.square(centred.ref), -1, { keepdims: true });
  return centred
    .div(np.sqrt(variance.add(1e-5)))
    .mul(weight)
    .add(bias);
};
const project = (x, { weight, bias }) => np.matmul(x, weight.transpose()).add(bias);
// By hand: `nn.dotProductAttention` is these products too, but needs the iterator helpers of Node 22.
const attended = (x, { normIn, qkv, out }) => {
  const all = project(normed(x, normIn), qkv)
    .reshape([B, T, 3 * H, D / H])
    .transpose([0, 2, 1, 3]);
  const [q, k, v] = np.split(all, 3, 1);
  const scores = np.matmul(q, k.transpose([0, 1, 3, 2])).mul(1 / Math.sqrt(D / H));
  const mixed = np.matmul(nn.softmax(np.where(np.tri(T, T, 0, { dtype: np.bool }), scores, -1e30), -1), v);
  return project(mixed.transpose([0, 2, 1, 3]).reshape([B * T, D]), out);
};
const spread = (x, { normMlp, up, down }) =>
  project(nn.gelu(project(normed(x, normMlp), up), { approximate: true }), down);
const lossOf = ({ table, positions, blocks, last }, rows, wanted) => {
  let x = rows
    .reshape([B, T, D])
    .add(positions)
    .reshape([B * T, D]);
  for (const layer of blocks) {
    x = x.ref.add(attended(x, layer));
    x = x.ref.add(spread(x, layer));
  }
  const logits = np.matmul(normed(x, last), table.transpose());
  const chosen = np.sum(nn.oneHot(wanted, V).mul(logits.ref), -1);
  return np.mean(nn.logsumexp(logits, -1).sub(chosen));
};

const [beta1, beta2, eps, rate, decay] = [0.9, 0.999, 1e-8, 1e-3, 0.01];
const backward = jit(valueAndGrad(lossOf, { argnums: [0, 1] }));
const update = jit((values, found, ms, vs, size, root) => {
  const squares = tree.leaves(tree.ref(found)).map((g) => np.sum(np.square(g)));
  const total = np.sqrt(squares.reduce((a, b) => a.add(b))).add(1e-6);
  const factor = np.minimum(np.reciprocal(total), 1);
  const gradients = tree.map((g) => g.mul(factor.ref), found);
  factor.dispose();
  const m = tree.map((a, g) => a.mul(beta1).add(g.mul(1 - beta1)), ms, tree.ref(gradients));
  const v = tree.map((a, g) => a.mul(beta2).add(np.square(g).mul(1 - beta2)), vs, gradients);
  const moved = (p, a, b) => {
    const kept = p.ndim === 2 ? p.mul(1 - rate * decay) : p;
    return kept.sub(a.mul(size.ref).div(np.sqrt(b).div(root.ref).add(eps)));
  };
  const next = tree.map(moved, values, tree.ref(m), tree.ref(v));
  size.dispose();
  root.dispose();
  return [next, m, v];
});

const zeros = () => tree.map((p) => np.zeros(p.shape), parameters);
let [m, v] = [zeros(), zeros()];
const [inputs, wanted] = [ids, targets].map((data) => np.array(data, { dtype: np.int32 }));
let taken = 0;

async function run() {
  taken++;
  const [rows, scatter] = vjp((table) => np.take(table, inputs.ref, 0), [parameters.table.ref]);
  const [loss, [found, dRows]] = backward(tree.ref(parameters), rows, wanted.ref);
  const [looked] = scatter(dRows);
  scatter.dispose();
  found.table = found.table.add(looked);
  const size = np.array(rate / (1 - beta1 ** taken));
  const root = np.array(Math.sqrt(1 - beta2 ** taken));
  [parameters, m, v] = update(parameters, found, m, v, size, root);
  // The next step reads all of it: until it is there, this one is not over.
  await Promise.all([parameters, m, v].flatMap((part) => tree.leaves(part)).map((a) => a.blockUntilReady()));
  return (await loss.data())[0];
}

console.log("ready");
for await (const _ of createInterface({ input: process.stdin })) console.log(await run(), peak());
process.exit(0);
