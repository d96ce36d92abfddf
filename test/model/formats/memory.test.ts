import { expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import { widen } from "../../../src/kernels/reference/widen.js";
import { type MemoryTensor, memoryCheckpoint } from "../../../src/model/formats/memory.js";

const within = Float32Array.of(9, 9, 9, 1, 2, 3, 4, 5, 6, 9).subarray(3, 9);
const checkpoint = memoryCheckpoint(
  "made",
  new Map<string, MemoryTensor>([
    ["w.weight", { shape: [2, 3], data: within }],
    ["b.bias", { shape: [2], data: Float32Array.of(0.5, -1) }],
    ["mask", { shape: [1, 1, 2, 2], data: new Float32Array(4) }],
    ["empty", { shape: [0, 3], data: new Float32Array(0) }],
  ]),
);

test("gives matrices, vectors and shapes, of a view of a larger array too", async () => {
  expect(checkpoint.format).toBe("safetensors");
  expect(checkpoint.tensors.get("mask")).toMatchObject({ name: "mask", shape: [1, 1, 2, 2], type: "f32" });
  const matrix = checkpoint.matrix("w.weight", 2, 3);
  expect([matrix.rows, matrix.cols, matrix.type]).toEqual([2, 3, "f32"]);
  expect(widen("f32", await matrix.read(0, 2), 6)).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
  expect(widen("f32", await matrix.read(1, 1), 3)).toEqual(Float32Array.of(4, 5, 6));
  expect(await checkpoint.vector("b.bias", 2)).toEqual(Float32Array.of(0.5, -1));
  expect(await checkpoint.vector("empty", 0)).toHaveLength(0);
  await checkpoint.close();
});

test("vectors are copies, matrices are not: both are as later reads find them", async () => {
  const data = Float32Array.of(1, 2);
  const live = memoryCheckpoint("live", new Map([["v", { shape: [1, 2], data }]]));
  const before = await live.vector("v", 2);
  data[0] = 7;
  expect(before[0]).toBe(1);
  expect((await live.vector("v", 2))[0]).toBe(7);
  expect(widen("f32", await live.matrix("v", 1, 2).read(0, 1), 2)[0]).toBe(7);
});

test("says what is wrong as a stored checkpoint does", async () => {
  expect(() => checkpoint.matrix("weight", 2, 3)).toThrow(/made: has no tensor weight/);
  expect(() => checkpoint.matrix("w.weight", 3, 2)).toThrow(
    /w.weight in made: expected shape \[3, 2\], got \[2, 3\]/,
  );
  await expect(checkpoint.vector("b.bias", 3)).rejects.toThrow(/expected 3 numbers, got shape \[2\]/);
  await expect(async () => checkpoint.matrix("w.weight", 2, 3).read(1, 2)).rejects.toThrow(InputError);
  const nan = memoryCheckpoint("n", new Map([["v", { shape: [2], data: Float32Array.of(0, Number.NaN) }]]));
  await expect(nan.vector("v", 2)).rejects.toThrow(/v in n: number 1 is NaN/);
});

test.each<[string, unknown, RegExp]>([
  [
    "too few numbers",
    { shape: [2, 2], data: new Float32Array(3) },
    /t: shape \[2, 2\] holds 4 .* data has 3/,
  ],
  ["half a row", { shape: [1.5], data: new Float32Array(1) }, /a dimension is 1.5/],
  ["overflow", { shape: [2 ** 40, 2 ** 40], data: new Float32Array(1) }, /impossibly large/],
  ["another array", { shape: [1], data: [1] }, /expected a Float32Array, got \[object Array\]/],
  ["another field", { shape: [1], data: new Float32Array(1), dtype: "F32" }, /unknown option "dtype"/],
])("refuses %s", (_, tensor, message) => {
  const make = () => memoryCheckpoint("m", new Map([["t", tensor as MemoryTensor]]));
  expect(make).toThrow(InputError);
  expect(make).toThrow(message);
});
