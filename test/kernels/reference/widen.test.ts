import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import type { StoredType } from "../../../src/kernels/format.js";
import { halfToFloat, widen } from "../../../src/kernels/reference/widen.js";

/** One block of each type with gguf-py's reading of it; `formats/gguf.test.ts` compares the whole shared file. */
const { blocks } = JSON.parse(readFileSync(new URL("../../fixtures/blocks.json", import.meta.url), "utf8"));

describe("stored numbers widen to gguf-py's bits", () => {
  test.each(Object.keys(blocks) as StoredType[])("%s", (type) => {
    const values = Buffer.from(blocks[type].values, "base64");
    const got = widen(type, Buffer.from(blocks[type].bytes, "base64"), values.length / 4);
    expect(Buffer.compare(Buffer.from(got.buffer), values)).toBe(0);
  });

  test("f32 and f16, with what is not finite", () => {
    const half = new Uint16Array([0x3c00, 0xc000, 0x0001, 0x8000, 0x7bff, 0x7c00, 0xfc00, 0x7e00]);
    expect(widen("f16", new Uint8Array(half.buffer), 8)).toEqual(
      Float32Array.of(
        1,
        -2,
        2 ** -24,
        -0,
        65504,
        Number.POSITIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
        Number.NaN,
      ),
    );
    expect(halfToFloat(0x03ff)).toBe(1023 * 2 ** -24);
    const floats = Float32Array.of(1.5, -0, 1e-45, Number.NaN);
    expect(widen("f32", new Uint8Array(floats.buffer), 4)).toEqual(floats);
  });

  test("refuses bytes that are not those of the count", () => {
    expect(() => widen("Q8_0", new Uint8Array(34), 33)).toThrow(InputError);
    expect(() => widen("Q8_0", new Uint8Array(33), 32)).toThrow(/take 34 bytes, but 33 came/);
  });
});
