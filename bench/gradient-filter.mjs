// Cross-entropy with the gradient filter on a trained head and real hidden states, against PyTorch without one.
// node bench/gradient-filter.mjs [model.gguf [rows [rounds]]]; needs ../shared. LMHEAD_PYTHON: see torch-cross-entropy.mjs.
import { headOf, open } from "./heads.mjs";
import { assert, interleave, median, report, verdict } from "./lib.mjs";
import { torchCrossEntropy } from "./torch-cross-entropy.mjs";
import { trained } from "./trained.mjs";

const N = Number(process.argv[3] ?? 4096);
const rounds = Number(process.argv[4] ?? 3);
const { V, D, weight, hidden, targets } = await trained(N);
const device = await open();
const head = await headOf(device, weight, V, D);
const zeros = async (_, count) => new Uint8Array(count * D * 4);
const gradient = await device.matrix({ name: "gradient", rows: V, cols: D, type: "f32", read: zeros });
const coefficients = new Float32Array(N).fill(1 / N);
const ours = (rest) =>
  device.loss(head, hidden, { ids: targets, perRow: 1, coefficients, gradients: { hidden: false, ...rest } });
const both = (rest) => ours({ hidden: true, weight: gradient, ...rest });
const all = Int32Array.from({ length: V }, (_, id) => id);

// Right answers first: the exact gradients are PyTorch's, and what the filter takes from them.
const torch = await torchCrossEntropy(weight, hidden, targets);
const theirs = await torch.run();
const answer = await both();
const exact = await gradient.gather(all);
const loss = answer.logSumExp.reduce((sum, lse, n) => sum + (lse - answer.targetLogits[n]) / N, 0);
assert(Math.abs(loss - theirs.loss) < 1e-5 * loss, `loss ${loss}, PyTorch ${theirs.loss}`);
const first = exact.subarray(targets[0] * D, targets[0] * D + 4);
[...answer.dHidden.slice(0, 4), ...first].forEach((x, i) => {
  assert(
    Math.abs(x - theirs.first[i]) < 1e-8 + 1e-3 * Math.abs(x),
    `gradient ${x}, PyTorch ${theirs.first[i]}`,
  );
});
for (const power of [10, 12, 14, 16]) {
  await device.zero([gradient]);
  const { dHidden, filtered } = await both({ filter: 2 ** -power });
  const errors = [error(dHidden, answer.dHidden), error(await gradient.gather(all), exact)];
  const [h, w] = errors.map((e) => `${(100 * e).toFixed(2)}%`);
  console.log(
    `  ε = 2^-${power}: leaves out ${(100 * filtered).toFixed(2)}% of the blocks; error of dHidden ${h}, of dWeight ${w}`,
  );
}

const times = await interleave(
  {
    "PyTorch, CPU": torch.run,
    "lmhead, exact": () => both(),
    "lmhead, filtered, ε = 2^-12": () => both({ filter: 2 ** -12 }),
    "lmhead, filtered, ε = 2^-16": () => both({ filter: 2 ** -16 }),
    "lmhead, the loss alone": () => ours(),
  },
  rounds,
  0,
);
report(`linear + cross-entropy, loss and both gradients, SmolLM2's head, N=${N}, V=${V}, D=${D}`, times);
const ratio = (name) => median(times["PyTorch, CPU"]) / median(times[name]);
console.log(`  PyTorch's time / lmhead's without a filter: ${ratio("lmhead, exact").toFixed(2)}`);
console.log(`  … with ε = 2^-16: ${ratio("lmhead, filtered, ε = 2^-16").toFixed(2)}`);
verdict("PyTorch's time / lmhead's with ε = 2^-12", ratio("lmhead, filtered, ε = 2^-12"), 1);
torch.end();
await device.close();
process.exit(0);

/** ‖a − b‖ / ‖b‖ */
function error(a, b) {
  let [far, norm] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    far += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return Math.sqrt(far / norm);
}
