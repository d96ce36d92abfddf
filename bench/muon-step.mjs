// A step of Muon on all hidden matrices of a GPT of 4 layers, D=256, against what 128-bit SIMD can do at best on this
// machine with as many multiply-adds, in registers alone. Needs the build: node bench/muon-step.mjs
import { arraySource } from "../dist/index.js";
import { openDevice } from "../dist/kernels/open.js";
import { updatesOf } from "../dist/train/optimizers/updates.js";
import { assert, ceilings, interleave, median, normals, report, threads } from "./lib.mjs";

const [L, D] = [4, 256];
const shapes = Array.from({ length: L }, () => [
  [3 * D, D],
  [D, D],
  [4 * D, D],
  [D, 4 * D],
]).flat();
const parameters = shapes.map((shape, i) => ({ name: `w${i}`, shape, kind: "matrix" }));
const updates = updatesOf({ name: "muon" }, parameters);
const device = await openDevice({ device: "wasm", threads });
const matrix = (rows, cols, data) => device.matrix(arraySource("w", rows, cols, data));
const matrices = [];
for (const [i, [rows, cols]] of shapes.entries())
  matrices.push({
    value: await matrix(rows, cols, normals(rows * cols, i + 1, 0.02)),
    gradient: await matrix(rows, cols, normals(rows * cols, i + 101)),
    momentum: await matrix(rows, cols, new Float32Array(rows * cols)),
  });
let taken = 0;
const step = async () => {
  taken++;
  await device.update(
    parameters.map(({ name }, i) => {
      const { value, gradient, momentum } = matrices[i];
      return updates.get(name).onDevice(value, gradient, [momentum], 1e-3, taken, 1);
    }),
  );
};
await step();
const [rows, cols] = shapes[1];
const value = normals(rows * cols, 2, 0.02);
updates.get("w1").apply(value, normals(rows * cols, 102), [new Float32Array(rows * cols)], 1e-3, 1);
const got = await matrices[1].value.gather(Array.from({ length: rows }, (_, i) => i));
assert(
  got.every((x, i) => Object.is(x, value[i])),
  "not the bits of the plain formula",
);

// Five times X·Xᵀ and its square, of which each panel of 16 columns is made down to its diagonal, and F·X.
const products = shapes.reduce((sum, [r, c]) => {
  const [S, long] = [Math.min(r, c), Math.max(r, c)];
  const half = (S * (S + 16)) / 2;
  return sum + 5 * (half * long + half * S + S * S * long);
}, 0);
const probe = await ceilings(4096, 2 * products);
const times = await interleave({ "lmhead, Muon": step, "f32 SIMD ceiling": probe.peak }, 5, 2);
report(
  `a Muon step of a GPT: ${L} layers, D=${D}; ${(products / 1e9).toFixed(1)} G multiply-adds, f32`,
  times,
  {
    what: "share of the ceiling",
    ratio: median(times["f32 SIMD ceiling"]) / median(times["lmhead, Muon"]),
    atLeast: 0.7,
  },
);
await probe.close();
await device.close();
