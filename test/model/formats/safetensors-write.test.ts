import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import { bytesSource } from "../../../src/model/formats/files.js";
import { openSafetensors } from "../../../src/model/formats/safetensors.js";
import { readSafetensors } from "../../../src/model/formats/safetensors-header.js";
import {
  safetensorsHeader,
  safetensorsLayout,
  type TensorToStore,
} from "../../../src/model/formats/safetensors-write.js";

const tensor = (name: string, ...shape: number[]): TensorToStore => ({ name, shape, type: "f32" });

/** A whole file of the numbers 0, step, 2·step, … */
function write(
  tensors: readonly TensorToStore[],
  step: number,
  metadata?: Record<string, string>,
): Uint8Array {
  const { header, places, size } = safetensorsLayout(tensors, metadata);
  const out = new Uint8Array(size);
  out.set(header);
  let k = 0;
  for (const { start, bytes } of places) {
    const numbers = Float32Array.from({ length: bytes / 4 }, () => k++ * step);
    out.set(new Uint8Array(numbers.buffer), start);
  }
  return out;
}

test("writes the bytes of the format's own library", () => {
  const theirs = readFileSync(new URL("fixtures/written.safetensors", import.meta.url));
  const names = [
    tensor("0", 2),
    tensor("a", 5),
    tensor("b.weight", 2, 3),
    tensor("empty", 0, 4),
    tensor("scalar"),
    tensor('é"\\\n', 1),
  ];
  expect(Buffer.from(write(names, 0.25)).equals(theirs)).toBe(true);
});

test("what is written is read back, whatever the names, shapes and order", async () => {
  const shapes = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 });
  const names = fc.string({ unit: "grapheme", maxLength: 12 }).filter((name) => name !== "__metadata__");
  const tensors = fc.uniqueArray(fc.tuple(names, shapes), { selector: ([name]) => name, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(
      tensors,
      fc.constantFrom(undefined, { format: "pt", by: "lmhead ⚙" }),
      async (list, metadata) => {
        const written = list.map(([name, shape]) => tensor(name, ...shape));
        const { header, places, size } = safetensorsLayout(written, metadata);
        expect(header).toEqual(safetensorsHeader(written, metadata));
        expect(header.length % 8).toBe(0);
        const file = await readSafetensors(bytesSource("f", write(written, 1, metadata)));
        const read = new Map(file.tensors.map((found) => [found.name, found]));
        expect(read.size).toBe(written.length);
        let at = header.length;
        for (const [i, { name, shape }] of written.entries()) {
          const { start, bytes } = places[i];
          expect(start).toBe(at);
          expect(read.get(name)).toMatchObject({ shape, type: "f32", start, bytes });
          at += bytes;
        }
        expect(at).toBe(size);
      },
    ),
  );
});

test("a checkpoint of it gives the numbers", async () => {
  const file = write([tensor("w", 2, 3), tensor("b", 2)], 1);
  const checkpoint = await openSafetensors(bytesSource("f", file));
  expect(await checkpoint.vector("w", 6)).toEqual(Float32Array.of(0, 1, 2, 3, 4, 5));
  expect(await checkpoint.vector("b", 2)).toEqual(Float32Array.of(6, 7));
});

describe("refusals", () => {
  test.each<[string, readonly unknown[], RegExp]>([
    ["a name twice", [tensor("a", 1), tensor("a", 2)], /the name a is taken twice/],
    ["the metadata's name", [tensor("__metadata__", 1)], /the name __metadata__ is taken twice/],
    ["half a character", [tensor("a\ud800", 1)], /expected Unicode text, got "a\\ud800"/],
    ["no name", [{ shape: [1], type: "f32" }], /expected Unicode text, got undefined/],
    ["another type", [{ ...tensor("a", 1), type: "bf16" }], /tensor a: type: expected f32, got bf16/],
    ["another field", [{ ...tensor("a", 1), data: [] }], /unknown option "data"/],
    ["a negative dimension", [tensor("a", -1)], /tensor a: a dimension is -1/],
    ["a shape that is none", [{ ...tensor("a"), shape: 3 }], /shape: expected an array of at most 16/],
    ["17 dimensions", [tensor("a", ...Array(17).fill(1))], /shape: expected an array of at most 16/],
    ["a tensor that no file holds", [tensor("a", 2 ** 51)], /impossibly large/],
    ["tensors that no file holds", [tensor("a", 2 ** 50), tensor("b", 2 ** 50)], /tensor b ends at byte/],
  ])("%s", (_, tensors, message) => {
    const make = () => safetensorsLayout(tensors as TensorToStore[]);
    expect(make).toThrow(InputError);
    expect(make).toThrow(message);
  });

  test("a header over 100 MB", () => {
    expect(() => safetensorsHeader([], { notes: "x".repeat(100_000_000) })).toThrow(
      /the format allows 100000000/,
    );
  });

  test("metadata that are no strings", () => {
    expect(() => safetensorsHeader([], { steps: 3 } as never)).toThrow(
      /metadata steps: expected a string, got number/,
    );
  });
});
