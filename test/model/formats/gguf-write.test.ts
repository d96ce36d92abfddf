import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import { BLOCKS, type StoredType } from "../../../src/kernels/format.js";
import { type QuantizedType, quantize } from "../../../src/kernels/reference/quantize.js";
import { widen } from "../../../src/kernels/reference/widen.js";
import { bytesSource } from "../../../src/model/formats/files.js";
import { openGguf } from "../../../src/model/formats/gguf.js";
import { readGgufHeader } from "../../../src/model/formats/gguf-header.js";
import {
  type GgufEntry,
  type GgufNumberType,
  type GgufTensor,
  ggufChunks,
  ggufFile,
  ggufLayout,
} from "../../../src/model/formats/gguf-write.js";

const fixture = (name: string) => readFileSync(new URL(`fixtures/${name}`, import.meta.url));
const u32 = (value: number): GgufEntry => ({ type: "u32", value });
const tensor = (name: string, type: StoredType, ...shape: number[]): GgufTensor => ({ name, shape, type });
const file = (metadata: Record<string, GgufEntry>, tensors: readonly GgufTensor[], bytes: Uint8Array[]) =>
  ggufFile(ggufLayout(metadata, tensors), (_, i) => [bytes[i]]);

describe("against gguf-py", () => {
  test("writes the bytes of its writer: every value type, shapes, types, paddings", async () => {
    const scalars: [GgufNumberType, string, number][] = [
      ["u8", "uint8", 200],
      ["i8", "int8", -100],
      ["u16", "uint16", 60000],
      ["i16", "int16", -30000],
      ["u32", "uint32", 4_000_000_000],
      ["i32", "int32", -2_000_000_000],
      ["f32", "float32", 0.1],
      ["u64", "uint64", 2 ** 53 - 1],
      ["i64", "int64", 1 - 2 ** 53],
      ["f64", "float64", 0.1],
    ];
    const metadata: Record<string, GgufEntry> = {
      "general.architecture": { type: "string", value: "llama" },
      "general.alignment": u32(32),
    };
    for (const [type, name, value] of scalars) {
      metadata[`a.${name}`] = { type, value };
      metadata[`b.${name}`] = { type: "array", of: type, value: [value, 1, 0] };
    }
    metadata["a.bool"] = { type: "bool", value: true };
    metadata["b.bool"] = { type: "array", of: "bool", value: [true, false] };
    metadata["a.string"] = { type: "string", value: 'é\n"⚙ a text of more than a few bytes' };
    metadata["b.string"] = { type: "array", of: "string", value: ["", "Ġthe", "⚙"] };
    metadata["c.nested"] = {
      type: "array",
      of: "array",
      value: [
        { of: "i32", value: [1, -2] },
        { of: "i32", value: Int32Array.of(3) },
      ],
    };
    metadata["c.texts"] = {
      type: "array",
      of: "array",
      value: [
        { of: "string", value: ["x"] },
        { of: "string", value: ["y", "z"] },
      ],
    };
    const tensors = [
      tensor("one", "f32", 5),
      tensor("two.weight", "f32", 3, 7),
      tensor("three", "f32", 2, 3, 2),
      tensor("four", "f32", 2, 1, 3, 1),
      tensor("half", "f16", 3, 3),
      tensor("q8", "Q8_0", 3, 64),
      tensor("q4", "Q4_0", 2, 32),
      tensor("q6k", "Q6_K", 1, 256),
    ];
    let at = 0;
    const written = await ggufFile(ggufLayout(metadata, tensors), ({ bytes }, i) =>
      tensors[i].type === "f32"
        ? [new Uint8Array(Float32Array.from({ length: bytes / 4 }, () => at++ / 4).buffer)]
        : [Uint8Array.from({ length: bytes }, (_, k) => k)],
    );
    expect(Buffer.from(written).equals(fixture("written.gguf"))).toBe(true);
  });

  const { rows, numbers, bytes } = JSON.parse(fixture("quantized.json").toString()) as {
    rows: number;
    numbers: string;
    bytes: Record<Exclude<QuantizedType, "f32">, string>;
  };
  const decoded = new Uint8Array(Buffer.from(numbers, "base64"));
  const x = new Float32Array(decoded.buffer);
  test.each(Object.entries(bytes) as [QuantizedType, string][])(
    "rounds to %s bit for bit",
    (type, theirs) => {
      expect(x.length).toBe(32 * rows);
      expect(rows).toBeGreaterThan(40);
      const ours = quantize(type, x, "x");
      expect(ours.length).toBe((x.length / BLOCKS[type].size) * BLOCKS[type].bytes);
      expect(Buffer.from(ours).toString("base64")).toBe(theirs);
    },
  );
});

describe("rounding", () => {
  const types: QuantizedType[] = ["f32", "f16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"];
  /** Most that a number moves, in units of the block's largest magnitude or spread. */
  const STEPS: Record<QuantizedType, number> = {
    f32: 0,
    f16: 2 ** -11,
    Q8_0: 0.5 / 127,
    // The number of the other sign than the largest one may have to come down by a whole step.
    Q4_0: 1 / 8,
    Q4_1: 1 / 15,
    Q5_0: 1 / 16,
    Q5_1: 1 / 31,
  };

  test("moves no number by more than the format's step", () => {
    const number = fc.float({ min: -1000, max: 1000, noNaN: true });
    const block = fc.array(number, { minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(block, fc.constantFrom(...types), (block, type) => {
        const numbers = Float32Array.from(block);
        const back = widen(type, quantize(type, numbers, "x"), 32);
        const largest = Math.max(...numbers.map(Math.abs));
        // Scale and minimum are halves: 2^-11 of them, and 2^-25 for each of up to 127 steps of the least ones.
        const bound = largest * STEPS[type] + (type === "f32" ? 0 : 2 ** -10 * largest + 127 * 2 ** -25);
        numbers.forEach((x, i) => {
          expect(Math.abs(x - back[i])).toBeLessThanOrEqual(bound);
        });
      }),
    );
  });

  test("halves are the nearest ones: every half comes back, and so does what lies between two", () => {
    const bits = Uint16Array.from({ length: 0x7c00 }, (_, i) => i);
    const halves = widen("f16", new Uint8Array(bits.buffer), bits.length);
    const same = (numbers: Float32Array, expected: (i: number) => number) => {
      const out = new Uint16Array(quantize("f16", numbers, "x").buffer);
      expect(out.findIndex((got, i) => got !== expected(i))).toBe(-1);
    };
    same(halves, (i) => i);
    same(
      halves.map((h) => -h),
      (i) => i | 0x8000,
    );
    const between = (share: number) => halves.subarray(0, -1).map((h, i) => h + share * (halves[i + 1] - h));
    same(between(0.5), (i) => i + (i % 2));
    same(between(0.4999), (i) => i);
    same(between(0.5001), (i) => i + 1);
  });

  test("a block too small for its scale is zeros, not NaN", () => {
    for (const type of types.slice(2)) {
      const tiny = new Float32Array(32).map((_, i) => (i - 16) * 1e-45);
      expect(widen(type, quantize(type, tiny, "x"), 32).every((x) => x === 0)).toBe(true);
      const zeros = widen(type, quantize(type, new Float32Array(32).fill(-0), "x"), 32);
      expect(zeros.every((x) => x === 0)).toBe(true);
    }
  });

  test.each<[string, QuantizedType, number[], RegExp]>([
    ["NaN", "Q8_0", [Number.NaN], /^w: number 32 is NaN; expected finite/],
    ["an infinity", "f32", [-Infinity], /^w: number 32 is -Infinity/],
    ["a number beyond f16", "f16", [65520], /^w: number 32 can't be stored as f16: 65520 is beyond half/],
    ["a scale beyond f16", "Q8_0", [9e6], /^w: number 32 to 63 can't be stored as Q8_0/],
    ["a minimum beyond f16", "Q4_1", [-7e4], /^w: number 32 to 63 can't be stored as Q4_1: -70000/],
    ["a spread beyond float32", "Q5_1", [3e38, -3e38], /can't be stored as Q5_1: Infinity is beyond/],
    [
      "a type without a writer",
      "Q6_K" as QuantizedType,
      [],
      /^w: can't be stored as Q6_K; the types are f32,/,
    ],
  ])("refuses %s", (_, type, given, message) => {
    const numbers = new Float32Array(64);
    numbers.set(given, 32);
    expect(() => quantize(type, numbers, "w")).toThrow(InputError);
    expect(() => quantize(type, numbers, "w")).toThrow(message);
  });

  test("refuses half a block", () => {
    expect(() => quantize("Q4_0", new Float32Array(33), "w")).toThrow(
      /33 numbers are not a whole number of Q4_0/,
    );
  });
});

describe("a file", () => {
  const whole = (min: number, max: number, type: GgufNumberType) =>
    fc.integer({ min, max }).map((value): GgufEntry => ({ type, value }));
  const text = fc.string({ unit: "grapheme", maxLength: 30 });
  const value = fc.oneof(
    whole(0, 255, "u8"),
    whole(-128, 127, "i8"),
    whole(0, 2 ** 32 - 1, "u32"),
    fc.maxSafeInteger().map((value): GgufEntry => ({ type: "i64", value })),
    fc.maxSafeNat().map((value): GgufEntry => ({ type: "u64", value })),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((value): GgufEntry => ({ type: "f64", value })),
    fc.boolean().map((value): GgufEntry => ({ type: "bool", value })),
    text.map((value): GgufEntry => ({ type: "string", value })),
    fc.array(text).map((value): GgufEntry => ({ type: "array", of: "string", value })),
    fc.array(fc.boolean()).map((value): GgufEntry => ({ type: "array", of: "bool", value })),
    fc.array(fc.maxSafeInteger()).map((value): GgufEntry => ({ type: "array", of: "i64", value })),
  );
  const keys = text.filter((key) => key !== "" && key !== "general.alignment" && key !== "__proto__");
  const stored = fc.constantFrom(...(Object.keys(BLOCKS) as StoredType[]));
  const shapes = fc.tuple(stored, fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 4 }));

  test("is read back by openGguf, whatever it holds", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(keys, value, { maxKeys: 8 }),
        fc.uniqueArray(fc.tuple(fc.string({ unit: "grapheme-ascii", maxLength: 20 }), shapes), {
          selector: ([name]) => name,
          maxLength: 6,
        }),
        async (metadata, list) => {
          const tensors = list.map(([name, [type, dims]]) => {
            const { size } = BLOCKS[type];
            const shape = size > 1 ? [...dims.slice(1), size * (dims[0] ?? 1)] : dims;
            return tensor(name, type, ...shape);
          });
          const layout = ggufLayout(metadata, tensors);
          const bytes = await ggufFile(layout, ({ bytes }, i) => [new Uint8Array(bytes).fill(i + 1)]);
          expect(bytes.length).toBe(layout.size);
          expect(bytes.length % 32).toBe(0);
          const source = bytesSource("x", bytes);
          const header = await readGgufHeader(source);
          expect(header.dataStart).toBe(layout.header.length);
          expect([...header.metadata]).toEqual(
            Object.entries(metadata).map(([key, { value }]) => [key, value]),
          );
          const checkpoint = await openGguf(source);
          expect(
            [...checkpoint.tensors.values()].map(({ name, shape, type }) => ({ name, shape, type })),
          ).toEqual(tensors);
          for (const [i, place] of layout.places.entries()) {
            expect(place.start % 32).toBe(0);
            const own = bytes.subarray(place.start, place.start + place.bytes);
            expect(own.every((byte) => byte === i + 1)).toBe(true);
            const next = layout.places[i + 1]?.start ?? layout.size;
            expect(next - place.start - place.bytes).toBeLessThan(32);
            expect(bytes.subarray(place.start + place.bytes, next).every((byte) => byte === 0)).toBe(true);
          }
        },
      ),
    );
  });

  test("a header larger than its first buffer is written whole", async () => {
    const tokens = Array.from({ length: 60000 }, (_, i) => `token number ${i}`);
    const numbers = Float32Array.from({ length: 50001 }, (_, i) => i / 3);
    const bytes = await file(
      {
        tokens: { type: "array", of: "string", value: tokens },
        scores: { type: "array", of: "f32", value: numbers },
        flags: { type: "array", of: "bool", value: tokens.map((_, i) => i % 3 === 0) },
      },
      [tensor("w", "f32", 2)],
      [new Uint8Array(Float32Array.of(1, 2).buffer)],
    );
    const checkpoint = await openGguf(bytesSource("big", bytes));
    expect(checkpoint.metadata.get("tokens")).toEqual(tokens);
    expect(checkpoint.metadata.get("scores")).toEqual(numbers);
    expect(checkpoint.metadata.get("flags")).toEqual(tokens.map((_, i) => i % 3 === 0));
    expect(await checkpoint.vector("w", 2)).toEqual(Float32Array.of(1, 2));
  });

  test("comes in chunks that together are the file, each tensor read when its turn comes", async () => {
    const layout = ggufLayout({}, [tensor("a", "f32", 3), tensor("b", "f16", 2)]);
    const asked: string[] = [];
    async function* read({ name, bytes }: { name: string; bytes: number }) {
      asked.push(name);
      for (let i = 0; i < bytes; i++) yield Uint8Array.of(i);
    }
    const chunks = ggufChunks(layout, read);
    expect((await chunks.next()).value).toBe(layout.header);
    expect(asked).toEqual([]);
    const rest: number[] = [];
    for await (const chunk of chunks) rest.push(...chunk);
    expect(asked).toEqual(["a", "b"]);
    expect(Uint8Array.of(...layout.header, ...rest)).toEqual(await ggufFile(layout, read));
  });

  test.each([[[40]], [[32, 8]], [[20, 20, 20]]])(
    "parts of %j bytes for a tensor of 32 are too long",
    async (parts) => {
      const made = ggufFile(ggufLayout({}, [tensor("a", "f32", 8)]), () =>
        parts.map((n) => new Uint8Array(n)),
      );
      await expect(made).rejects.toThrow(InputError);
    },
  );
});

describe("refusals", () => {
  const one = [tensor("a", "f32", 1)];
  let deep: GgufEntry & { type: "array" } = { type: "array", of: "u8", value: [1] };
  for (let i = 0; i < 4; i++)
    deep = { type: "array", of: "array", value: [{ of: deep.of, value: deep.value } as never] };
  const value = (type: string, value: unknown, of?: string) => ({ k: { type, value, ...(of && { of }) } });
  test.each<[string, unknown, readonly unknown[], RegExp]>([
    ["a name twice", {}, [...one, ...one], /the name a is taken twice/],
    ["a name beyond ggml's room", {}, [tensor("é".repeat(32), "f32", 1)], /name: expected at most 63 bytes/],
    ["half a character", {}, [tensor("\ud800", "f32", 1)], /name: expected Unicode text/],
    ["another field", {}, [{ ...one[0], data: [] }], /unknown option "data"/],
    ["another type", {}, [tensor("a", "Q2_K" as StoredType, 1)], /tensor a: expected a type of f32, f16/],
    ["five dimensions", {}, [tensor("a", "f32", 1, 1, 1, 1, 1)], /tensor a: expected a shape of at most 4/],
    ["no numbers", {}, [tensor("a", "f32", 2, 0)], /tensor a: expected a shape .* of 1 or more, got \[2,0\]/],
    ["half a number", {}, [tensor("a", "f32", 1.5)], /tensor a: a dimension is 1.5/],
    ["half a block", {}, [tensor("a", "Q8_0", 2, 33)], /rows of 33 numbers are not whole Q8_0 blocks/],
    [
      "too many",
      {},
      [tensor("a", "f32", 2 ** 50), tensor("b", "f32", 2 ** 50)],
      /tensor b ends at byte 9007199254740992/,
    ],
    [
      "another alignment",
      { "general.alignment": u32(64) },
      [],
      /alignment: expected 32 as u32, got 64 as u32/,
    ],
    [
      "an alignment of another type",
      { "general.alignment": { type: "u64", value: 32 } },
      [],
      /got 32 as u64/,
    ],
    ["an empty key", { "": u32(1) }, [], /a metadata key is empty/],
    ["a long key", { ["k".repeat(65536)]: u32(1) }, [], /key: expected at most 65535 bytes/],
    ["an unknown type", value("u128", 1), [], /metadata k: expected a type of u8, .*, got "u128"/],
    ["an unknown item type", value("array", [], "half"), [], /metadata k: expected a type of u8/],
    ["another field of a value", { k: { ...u32(1), unit: "s" } }, [], /unknown option "unit"/],
    ["u8 of 256", value("u8", 256), [], /metadata k: expected a whole number from 0 to 255 \(u8\), got 256/],
    ["i16 below", value("array", [0, -32769], "i16"), [], /metadata k\[1\]: expected .* -32768 to 32767/],
    ["u64 beyond 2^53", value("u64", 2 ** 53), [], /whole number from 0 to 9007199254740991/],
    ["f32 that overflows", value("f32", 1e39), [], /expected a finite number \(f32\), got 1e\+39/],
    ["f64 of NaN", value("f64", Number.NaN), [], /expected a finite number \(f64\), got NaN/],
    ["a number as text", value("u32", "1"), [], /got "1"/],
    ["a flag as number", value("bool", 1), [], /metadata k: expected true or false, got 1/],
    ["a text that is none", value("string", null), [], /expected Unicode text, got null/],
    ["an array that is none", value("array", 3, "u8"), [], /metadata k: expected an array, got 3/],
    ["arrays too deep", { k: deep }, [], /nest deeper than 4/],
  ])("%s", (_, metadata, tensors, message) => {
    const make = () => ggufLayout(metadata as Record<string, GgufEntry>, tensors as GgufTensor[]);
    expect(make).toThrow(InputError);
    expect(make).toThrow(message);
  });

  test.each([
    ["too few", 11],
    ["too many", 13],
    ["far too many", 4096],
  ])("%s bytes for a tensor", async (_, bytes) => {
    const written = file({}, [tensor("a", "f32", 3)], [new Uint8Array(bytes)]);
    await expect(written).rejects.toThrow(InputError);
    await expect(written).rejects.toThrow(`tensor a: expected 12 bytes, got ${bytes}`);
  });
});
