import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import type { MatrixSource } from "../../../src/kernels/device.js";
import { BLOCKS, type StoredType } from "../../../src/kernels/format.js";
import { widen } from "../../../src/kernels/reference/widen.js";
import { arraySource, float32Source, rowsReordered, transposed } from "../../../src/model/formats/sources.js";
import { randomSource } from "../../kernels/random.js";

const matrix = arraySource("m", 3, 2, Float32Array.of(1, 2, 3, 4, 5, 6));
const numbers = async (source: MatrixSource, first: number, count: number) => [
  ...widen(source.type, await source.read(first, count), count * source.cols),
];

/** The same numbers in bfloat16, at an odd place of a larger buffer. */
const bf16: MatrixSource = {
  ...matrix,
  type: "bf16",
  async read(first, count) {
    const bytes = await matrix.read(first, count);
    const out = new Uint8Array(1 + count * 4).subarray(1);
    for (let i = 0; i < count * 2; i++) out.set(bytes.subarray(4 * i + 2, 4 * i + 4), 2 * i);
    return out;
  },
};

describe("sources made of sources", () => {
  test("rows in another order, some twice", async () => {
    const order = rowsReordered(matrix, Int32Array.of(2, 0, 1, 1));
    expect(order.rows).toBe(4);
    expect(await numbers(order, 0, 4)).toEqual([5, 6, 1, 2, 3, 4, 3, 4]);
    expect(await numbers(order, 1, 2)).toEqual([1, 2, 3, 4]);
    expect(
      await numbers(
        rowsReordered(matrix, (row) => 2 - row),
        0,
        3,
      ),
    ).toEqual([5, 6, 3, 4, 1, 2]);
    expect(() => rowsReordered(matrix, Int32Array.of(3))).toThrow(InputError);
  });

  test.each([matrix, bf16])("transposed, whole, in parts and again ($type)", async (source) => {
    let reads = 0;
    const turned = transposed({
      ...source,
      read(first, count) {
        reads++;
        return source.read(first, count);
      },
    });
    expect([turned.rows, turned.cols]).toEqual([2, 3]);
    expect(await numbers(turned, 0, 1)).toEqual([1, 3, 5]);
    expect(await numbers(turned, 1, 1)).toEqual([2, 4, 6]);
    expect(reads).toBe(1);
    expect(await numbers(turned, 0, 2)).toEqual([1, 3, 5, 2, 4, 6]);
  });

  test("float32 is given back as it is", () => {
    expect(float32Source(matrix)).toBe(matrix);
  });

  test.each(Object.keys(BLOCKS).filter((type) => type !== "f32") as StoredType[])(
    "widened from %s, in parts and out of order",
    async (type) => {
      const [rows, cols] = [5, 512];
      const source = randomSource(type, rows, cols, 3);
      const all = widen(type, await source.read(0, rows), rows * cols);
      expect(new Set(all).size).toBeGreaterThan(50);
      const wide = float32Source(source);
      expect([wide.name, wide.rows, wide.cols, wide.type]).toEqual([source.name, rows, cols, "f32"]);
      expect(await numbers(wide, 0, rows)).toEqual([...all]);
      expect(await numbers(wide, 3, 2)).toEqual([...all.subarray(3 * cols)]);
      expect(await numbers(wide, 0, 1)).toEqual([...all.subarray(0, cols)]);
      expect(await numbers(wide, 2, 0)).toEqual([]);
    },
  );

  test("widened of a view of another source: transposed, in another order", async () => {
    const wide = float32Source(rowsReordered(transposed(bf16), Int32Array.of(1, 0)));
    expect(await numbers(wide, 0, 2)).toEqual([2, 4, 6, 1, 3, 5]);
  });

  test("refusals", async () => {
    await expect(matrix.read(2, 2)).rejects.toThrow(/rows 2 to 4 asked of 3/);
    expect(() => arraySource("m", 2, 2, new Float32Array(3))).toThrow(/expected 2 × 2 = 4 numbers, got 3/);
    await expect(float32Source(rowsReordered(bf16, (row) => row)).read(2, 2)).rejects.toThrow(/rows 2 to 4/);
    expect(() => transposed({ ...matrix, type: "Q8_0" })).toThrow(/Q8_0, which can't be transposed/);
  });
});
