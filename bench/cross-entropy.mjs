// Linear + cross-entropy, the loss and both gradients in one call, against PyTorch and the f32 SIMD ceiling of three products.
// Memory: what each takes at most above its own process before there are arrays.
// node bench/cross-entropy.mjs [4096x50257x768]; LMHEAD_PYTHON names a Python with torch and numpy (default: python3).
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { headOf, open } from "./heads.mjs";
import { assert, ceilings, interleave, median, normals, report, root, verdict } from "./lib.mjs";
import { arrayFiles, torchCrossEntropy } from "./torch-cross-entropy.mjs";

const [N, V, D] = (process.argv[2] ?? "4096x50257x768").split("x").map(Number);
const hidden = normals(N * D, 2);
const weight = normals(V * D, 1, 0.02);
const device = await open();
const ids = Int32Array.from({ length: N }, (_, n) => (n * 7919 + 13) % V);
const coefficients = new Float32Array(N).fill(1 / N);

const torch = await torchCrossEntropy(weight, hidden, ids);
const head = await headOf(device, weight, V, D);
const zeros = async (_, count) => new Uint8Array(count * D * 4);
const gradient = await device.matrix({ name: "gradient", rows: V, cols: D, type: "f32", read: zeros });
const ours = (weight) =>
  device.loss(head, hidden, { ids, perRow: 1, coefficients, gradients: { hidden: true, weight } });

// Right answers first: the loss, and some numbers of each gradient.
const answer = await ours(gradient);
const theirs = await torch.run();
const loss = answer.logSumExp.reduce((sum, lse, n) => sum + (lse - answer.targetLogits[n]) / N, 0);
assert(Math.abs(loss - theirs.loss) < 1e-5 * loss, `loss ${loss}, PyTorch ${theirs.loss}`);
const mine = [...answer.dHidden.slice(0, 4), ...(await gradient.gather([13])).slice(0, 4)];
mine.forEach((x, i) => {
  assert(
    Math.abs(x - theirs.first[i]) < 1e-9 + 1e-4 * Math.abs(x),
    `gradient ${x}, PyTorch ${theirs.first[i]}`,
  );
});

const probe = await ceilings(1 << 20, (6 * N * V * D) / 100); // its loop counts in 32 bits
const ceiling = async () => {
  for (let i = 0; i < 100; i++) await probe.peak();
};
const times = await interleave(
  { "PyTorch, CPU": torch.run, lmhead: () => ours(gradient), "f32 SIMD ceiling, three products": ceiling },
  3,
  0,
);
report(`linear + cross-entropy, loss and both gradients, N=${N}, V=${V}, D=${D}`, times);
const ms = median(times.lmhead);
verdict("ceiling / lmhead's time", median(times["f32 SIMD ceiling, three products"]) / ms, 0.85);
console.log(`  PyTorch's time / lmhead's: ${(median(times["PyTorch, CPU"]) / ms).toFixed(2)}`);
const peaks = { torch: (await torch.run()).peak, lmhead: ownPeak() };
const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
console.log(`  peak above the start: PyTorch ${gib(peaks.torch)}, lmhead ${gib(peaks.lmhead)}`);
verdict("PyTorch's peak memory / lmhead's", peaks.torch / peaks.lmhead, 6);
torch.end();
await probe.close();
await device.close();
process.exit(0);

/** Peak memory of lmhead's in a process of its own. */
function ownPeak() {
  const { files, remove } = arrayFiles(weight, hidden, ids);
  try {
    const script = join(root, "bench/cross-entropy-memory.mjs");
    return Number(execFileSync(process.execPath, [script, String(D), ...files], { encoding: "utf8" }));
  } finally {
    remove();
  }
}
