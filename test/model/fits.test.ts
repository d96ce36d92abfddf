import { expect, test } from "vitest";
import type { MatrixSource } from "../../src/kernels/device.js";
import { checkFits } from "../../src/model/fits.js";

const source = (rows: number, cols: number): MatrixSource => ({
  name: "w",
  rows,
  cols,
  type: "f32",
  read: () => Promise.reject(new Error("nothing is read before it is known to fit")),
});

test("a model too big for WebAssembly's memory: what it needs, what there is, what would fit", () => {
  const wasm = { kind: "wasm", memory: 0 } as const;
  const billion = Array.from({ length: 1000 }, () => source(1024, 1024));
  expect(() => checkFits(wasm, billion)).toThrow(
    /take 3.91 GiB, but 3.75 GiB of 32-bit WebAssembly's 4 GiB are left for them; stored as f16 or bf16 .* 1.95 GiB/,
  );
  const many = [...billion, ...billion, ...billion, ...billion, ...billion];
  expect(() => checkFits(wasm, many)).toThrow(/stored as Q4_0 it would take about 3.05 GiB/);
  expect(() => checkFits(wasm, [...many, ...many])).toThrow(/take a model of at most \d+ million weights/);
  expect(() => checkFits({ kind: "wasm", memory: 2 ** 31 }, billion.slice(0, 500))).toThrow(/1.75 GiB of/);
  checkFits(wasm, billion.slice(0, 900));
  checkFits({ kind: "reference", memory: 0 }, many);
});
