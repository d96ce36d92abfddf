// One AdamW step (forward, loss, backward, clipping, update) of a GPT of 4 layers, D=256, V=4096, T=128, batch 16, tied,
// against PyTorch and jax-js, each in a process of its own. Memory: what each takes at most above its process before
// there is a model. node bench/train-step.mjs [LxDxVxTxBxH]; LMHEAD_PYTHON names a Python with torch (default: python3).
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { assert, interleave, median, report, root, threads, verdict } from "./lib.mjs";

const [L, D, V, T, B, H] = (process.argv[2] ?? "4x256x4096x128x16x4").split("x").map(Number);
const shape = JSON.stringify([L, D, V, T, B, H]);
const script = (name) => join(root, "bench", name);
const python = process.env.LMHEAD_PYTHON ?? "python3";
const torch = await rival(python, [script("train_step.py"), shape, String(threads)]);
assert(torch, "Python with torch is missing: name one in LMHEAD_PYTHON");
const jax = await rival(process.execPath, [script("train-step-jax.mjs"), shape, "1"]);
const jaxThreads = await rival(process.execPath, [script("train-step-jax.mjs"), shape, String(threads)]);
assert(jax && jaxThreads, "jax-js is missing: run `npm ci`");
const ours = await rival(process.execPath, [script("train-step-lmhead.mjs"), shape]);
assert(ours, "dist is missing: run `npm run build`");
console.log(`PyTorch ${torch.ready.split(" ")[1]}`);
// Weights are drawn by different generators: the first losses are all near ln V, and all must fall alike.
const losses = { lmhead: [], PyTorch: [], "jax-js": [], "jax-js with threads": [] };
for (let i = 0; i < 5; i++) {
  losses.lmhead.push((await ours.run()).loss);
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
  lmhead: ours.run,
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
const [torchPeak, jaxPeak, peak] = [await torch.run(), await jax.run(), await ours.run()].map(
  (run) => run.peak,
);
console.log(`  peak above the start: PyTorch ${mib(torchPeak)}, jax-js ${mib(jaxPeak)}, lmhead ${mib(peak)}`);
verdict("PyTorch's peak memory / lmhead's", torchPeak / peak, 1);
for (const one of [torch, jax, jaxThreads, ours]) one.end();
process.exit(0);

/** A contestant's process: it says when it is ready; for each line it takes a step, and answers with the loss and its peak memory. */
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
