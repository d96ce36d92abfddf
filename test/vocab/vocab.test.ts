import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device, MatrixSource } from "../../src/kernels/device.js";
import { arraySource } from "../../src/model/formats/sources.js";
import { Embedding } from "../../src/vocab/embedding.js";
import { findPadding, trimBias } from "../../src/vocab/padding.js";
import { findTying } from "../../src/vocab/tying.js";
import { VocabMatrix } from "../../src/vocab/vocab-matrix.js";
import { devices } from "../devices.js";
import { uniform } from "../fixtures/tiny-models.js";

const random = (rows: number, cols: number, seed: number) => {
  const next = uniform(seed);
  return Float32Array.from({ length: rows * cols }, next);
};

describe.each(devices)("on %s", (_, open) => {
  let device: Device;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device.close());

  test("an embedding reads scaled rows", async () => {
    const data = random(21, 5, 1);
    const vocab = await VocabMatrix.load(device, arraySource("w", 21, 5, data), { vocabSize: 19 });
    expect([vocab.rows, vocab.vocabSize, vocab.paddedRows, vocab.dim]).toEqual([21, 19, 2, 5]);
    const vectors = await new Embedding(vocab, 3).vectors([18, 0]);
    const expected = [...data.subarray(90, 95), ...data.subarray(0, 5)].map((x) => Math.fround(3 * x));
    expect(Array.from(vectors)).toEqual(expected);
    await expect(new Embedding(vocab).vectors([0, 19])).rejects.toThrow(
      /id 19 at position 1: expected a whole number from 0 to 18/,
    );
    expect(() => vocab.checkIds([1.5])).toThrow(/id 1.5/);
    expect(() => vocab.checkIds([Number.NaN])).toThrow(/id NaN/);
  });

  test("a vocabulary larger than its matrix is refused and nothing stays in memory", async () => {
    const before = device.memory;
    const source = arraySource("w", 4, 2, random(4, 2, 1));
    await expect(VocabMatrix.load(device, source, { vocabSize: 5 })).rejects.toThrow(/from 1 to 4/);
    expect(device.memory).toBe(before);
  });
});

describe("tying is found in the tensors", () => {
  const named = (name: string, source: MatrixSource) => ({ name, source });
  const data = random(300, 7, 2);
  const embedding = named("embed", arraySource("embed", 300, 7, data));

  test("one tensor", async () => {
    const { tied, how } = await findTying(embedding, undefined, ["lm_head"]);
    expect(tied).toBe(true);
    expect(how).toBe("embed is the only vocabulary matrix; there is no lm_head");
  });

  test("two equal tensors", async () => {
    const { tied, how } = await findTying(
      embedding,
      named("lm_head", arraySource("h", 300, 7, data.slice())),
      [],
    );
    expect(tied).toBe(true);
    expect(how).toMatch(/embed and lm_head are equal byte for byte/);
  });

  test.each([0, 1, 2099])("two that differ in number %i only", async (at) => {
    const other = data.slice();
    other[at] += 1;
    const { tied, how } = await findTying(embedding, named("lm_head", arraySource("h", 300, 7, other)), []);
    expect(tied).toBe(false);
    expect(how).toContain(`first in row ${Math.floor(at / 7)}`);
  });

  test("two of other shapes or formats", async () => {
    const shorter = named("lm_head", arraySource("h", 299, 7, data.slice(7)));
    expect((await findTying(embedding, shorter, [])).how).toMatch(/differ in rows: 300 and 299/);
    const half = named("lm_head", { ...embedding.source, type: "f16" as const });
    expect((await findTying(embedding, half, [])).tied).toBe(false);
  });

  test("large matrices are compared in chunks, each row once", async () => {
    const reads: [number, number][] = [];
    const big = (rows: number): MatrixSource => ({
      name: "big",
      rows,
      cols: 512,
      type: "f32",
      async read(first, count) {
        reads.push([first, count]);
        return new Uint8Array(count * 2048);
      },
    });
    await findTying(named("a", big(5000)), named("b", big(5000)), []);
    const own = reads.filter((_, i) => i % 2 === 0);
    expect(own[0]).toEqual([0, 1]);
    for (const [i, [first]] of own.slice(1).entries()) expect(first).toBe(own[i][0] + own[i][1]);
    expect(own.at(-1)![0] + own.at(-1)![1]).toBe(5000);
    expect(Math.max(...own.map(([, count]) => count)) * 2048).toBeLessThanOrEqual(4 << 20);
  });
});

describe("padding", () => {
  test("rows beyond the tokenizer are masked, or kept when asked", () => {
    expect(findPadding(320, 307, false)).toEqual({ vocabSize: 307, paddedRows: 13, padding: "masked" });
    expect(findPadding(320, 307, true)).toEqual({ vocabSize: 320, paddedRows: 13, padding: "kept" });
  });

  test("no tokenizer, no padding; a larger tokenizer neither", () => {
    const none = { vocabSize: 320, paddedRows: 0, padding: "none" };
    expect(findPadding(320, undefined, false)).toEqual(none);
    expect(findPadding(320, 320, false)).toEqual(none);
    expect(findPadding(320, 321, false)).toEqual(none);
  });

  test("a bias loses the padding's part", () => {
    const bias = Float32Array.of(1, 2, 3);
    expect(trimBias(bias, 2)).toEqual(Float32Array.of(1, 2));
    expect(trimBias(bias, 3)).toBe(bias);
    expect(trimBias(undefined, 3)).toBeUndefined();
  });
});
