import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import { BLOCKS, type StoredType } from "../../../src/kernels/format.js";
import { widen } from "../../../src/kernels/reference/widen.js";
import { bytesSource } from "../../../src/model/formats/files.js";
import { ggmlTypeName, openGguf } from "../../../src/model/formats/gguf.js";
import { readGgufHeader } from "../../../src/model/formats/gguf-header.js";
import { GgufMetadata } from "../../../src/model/formats/gguf-metadata.js";
import { fileSource } from "../../../src/model/formats/node-files.js";
import { openSafetensors } from "../../../src/model/formats/safetensors.js";
import { makeGguf } from "../../fixtures/make-gguf.js";
import { shared, sharedPath } from "../../shared.js";

const floats = (...x: number[]) => new Uint8Array(Float32Array.from(x).buffer);
const open = (bytes: Uint8Array) => openGguf(bytesSource("x.gguf", bytes));
const tiny = makeGguf({
  metadata: {
    "general.architecture": { type: "string", value: "llama" },
    "llama.block_count": { type: "u64", value: 2 },
    "llama.eps": { type: "f32", value: 0.5 },
    flag: { type: "bool", value: true },
    names: {
      type: "array",
      of: "string",
      value: ["a", "é", "a longer string of more than twenty-four bytes"],
    },
    numbers: { type: "array", of: "i32", value: [1, -2, 3] },
  },
  tensors: [
    { name: "m", dims: [3, 2], type: 0, data: floats(1, 2, 3, 4, 5, 6) },
    { name: "v", dims: [2], type: 0, data: floats(7, 8) },
  ],
});

describe("a file", () => {
  test("gives metadata and tensors, shapes turned round", async () => {
    const checkpoint = await open(tiny);
    const metadata = new GgufMetadata("x", checkpoint.metadata);
    expect(metadata.text("general.architecture")).toBe("llama");
    expect(metadata.whole("llama.block_count")).toBe(2);
    expect(metadata.number("llama.eps")).toBe(0.5);
    expect(metadata.flag("flag")).toBe(true);
    expect(metadata.texts("names")).toEqual(["a", "é", "a longer string of more than twenty-four bytes"]);
    expect(Array.from(metadata.numbers("numbers")!)).toEqual([1, -2, 3]);
    expect(metadata.text("absent")).toBeUndefined();
    expect(() => metadata.number("flag")).toThrow(/expected a number, got true/);
    expect(checkpoint.tensors.get("m")!.shape).toEqual([2, 3]);
    expect(widen("f32", await checkpoint.matrix("m", 2, 3).read(1, 1), 3)).toEqual(Float32Array.of(4, 5, 6));
    expect(await checkpoint.vector("v", 2)).toEqual(Float32Array.of(7, 8));
  });

  test("a header larger than the first window is read", async () => {
    const value = Array.from({ length: 60000 }, (_, i) => `token number ${i}`);
    const bytes = makeGguf({ metadata: { t: { type: "array", of: "string", value } } });
    const header = await readGgufHeader(bytesSource("big", bytes));
    expect(header.metadata.get("t")).toEqual(value);
  });
});

describe("headers that lie", () => {
  const one = { name: "m", dims: [32], type: 0, data: new Uint8Array(128) };
  const cases: [string, Uint8Array, RegExp][] = [
    ["no GGUF", new TextEncoder().encode("GGML0000"), /no GGUF file/],
    ["empty", new Uint8Array(0), /ends inside its header/],
    ["version 1", makeGguf({ version: 1 }), /version 1; supported are 2 and 3/],
    ["big-endian", makeGguf({ version: 3 << 24 }), /big-endian/],
    ["tensor count", makeGguf({ counts: { tensors: 2n ** 40n } }), /claims 1099511627776 tensors/],
    ["key count", makeGguf({ counts: { keys: 2n ** 60n } }), /beyond 2\^53/],
    ["five dimensions", makeGguf({ tensors: [{ ...one, dims: [1, 1, 1, 1, 1] }] }), /has 5 dimensions/],
    ["overflow", makeGguf({ tensors: [{ ...one, dims: [2n ** 40n, 2n ** 40n] }] }), /impossibly large/],
    ["dimension beyond 2^53", makeGguf({ tensors: [{ ...one, dims: [2n ** 63n] }] }), /beyond 2\^53/],
    ["past the end", makeGguf({ tensors: [{ ...one, dims: [33] }] }), /cut short/],
    ["offset unaligned", makeGguf({ tensors: [{ ...one, offset: 3 }] }), /no multiple of the alignment 32/],
    ["twice", makeGguf({ tensors: [one, one] }), /tensor m stands twice/],
    ["overlap", makeGguf({ tensors: [one, { ...one, name: "n", offset: 0 }] }), /m and n overlap/],
    [
      "type not supported",
      makeGguf({ tensors: [{ ...one, type: 10 }] }),
      /m is stored as Q2_K.*supported are.*Q4_0/,
    ],
    ["type unknown", makeGguf({ tensors: [{ ...one, type: 999 }] }), /type 999/],
    ["half a block", makeGguf({ tensors: [{ ...one, dims: [33], type: 2 }] }), /not whole Q4_0 blocks of 32/],
    ["alignment", makeGguf({ metadata: { "general.alignment": { type: "u32", value: 3 } } }), /power of two/],
    [
      "split",
      makeGguf({ metadata: { "split.count": { type: "u32", value: 3 } } }),
      /llama-gguf-split --merge/,
    ],
    ["u64 beyond 2^53", makeGguf({ metadata: { k: { type: "u64", value: 2n ** 60n } } }), /beyond 2\^53/],
  ];
  test.each(cases)("%s", async (_, bytes, message) => {
    const error = await open(bytes).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).toMatch(message);
  });

  test("any damage is an InputError or a readable file", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(tiny.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.nat(tiny.length),
        fc.boolean(),
        async (edits, length, cut) => {
          const bytes = cut ? tiny.slice(0, length) : tiny.slice();
          for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
          try {
            const checkpoint = await open(bytes);
            for (const [name, { shape }] of checkpoint.tensors)
              await checkpoint.vector(
                name,
                shape.reduce((a, b) => a * b, 1),
              );
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe.skipIf(!shared)("the shared cases", () => {
  test("every supported block format widens to gguf-py's bits", async () => {
    const source = await fileSource(sharedPath("cases/gguf/blocks.gguf"));
    const wanted = await openSafetensors(await fileSource(sharedPath("cases/gguf/blocks.safetensors")));
    const { tensors, dataStart } = await readGgufHeader(source);
    const seen = new Set<string>();
    for (const { name, shape, ggmlType, offset } of tensors) {
      const type = ggmlTypeName(ggmlType) as StoredType;
      if (!(type in BLOCKS)) continue;
      seen.add(type);
      const count = shape.reduce((a, b) => a * b, 1);
      const bytes = (count / BLOCKS[type].size) * BLOCKS[type].bytes;
      const got = widen(type, await source.read(dataStart + offset, dataStart + offset + bytes), count);
      const want = await wanted.vector(name, count);
      expect(Buffer.compare(Buffer.from(got.buffer), Buffer.from(want.buffer)), name).toBe(0);
    }
    expect(seen.size).toBeGreaterThanOrEqual(9);
    await wanted.close();
    await expect(openGguf(source)).rejects.toThrow(/random\.\w+ is stored as \w+, which is not supported/);
  });

  test.each(["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k"])(
    "llama_%s: dequantised tensors",
    async (kind) => {
      const checkpoint = await openGguf(await fileSource(sharedPath(`cases/gguf/llama_${kind}.gguf`)));
      const wanted = await openSafetensors(
        await fileSource(sharedPath(`cases/gguf/llama_${kind}.safetensors`)),
      );
      const about = JSON.parse(readFileSync(sharedPath(`cases/gguf/llama_${kind}.json`), "utf8"));
      expect([...checkpoint.tensors.keys()].sort()).toEqual(Object.keys(about.tensor_types).sort());
      let compared = 0;
      for (const [full, { shape }] of wanted.tensors) {
        if (!full.startsWith("dequantised.")) continue;
        const name = full.slice("dequantised.".length);
        const tensor = checkpoint.tensors.get(name)!;
        const [rows, cols] = shape.length === 2 ? shape : [1, shape[0]];
        const got =
          shape.length === 2
            ? widen(
                tensor.type,
                await checkpoint.matrix(name, tensor.shape[0], tensor.shape[1]).read(0, rows),
                rows * cols,
              )
            : await checkpoint.vector(name, cols);
        expect(got, name).toEqual(await wanted.vector(full, rows * cols));
        compared++;
      }
      expect(compared).toBeGreaterThan(0);
      await checkpoint.close();
      await wanted.close();
    },
  );
});
