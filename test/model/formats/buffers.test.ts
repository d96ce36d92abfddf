import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { bytesSource } from "../../../src/model/formats/files.js";
import { openGguf } from "../../../src/model/formats/gguf.js";
import { transposed } from "../../../src/model/formats/sources.js";

/** The bytes in a part of a larger Buffer, at an odd place: `slice` of it is a view, unlike a Uint8Array's. */
function pooled(bytes: Uint8Array): Buffer {
  const pool = Buffer.alloc(bytes.length + 64, 0xab);
  pool.set(bytes, 33);
  return pool.subarray(33, 33 + bytes.length);
}

test("a GGUF file in a Node Buffer has the metadata that it has as plain bytes", async () => {
  const file = new Uint8Array(readFileSync(new URL("fixtures/written.gguf", import.meta.url)));
  const plain = await openGguf(bytesSource("file", file));
  const buffer = await openGguf(bytesSource("file", pooled(file)));
  expect([...buffer.metadata]).toEqual([...plain.metadata]);
  const arrays = [...plain.metadata.values()].filter((value) => ArrayBuffer.isView(value));
  expect(arrays.length).toBeGreaterThan(0);
});

test("a matrix is transposed from a Node Buffer", async () => {
  const numbers = Float32Array.of(1, 2, 3, 4, 5, 6);
  const bytes = pooled(new Uint8Array(numbers.buffer));
  const turned = transposed({ name: "m", rows: 2, cols: 3, type: "f32", read: async () => bytes });
  const read = await turned.read(0, 3);
  expect([...new Float32Array(read.buffer, read.byteOffset, 6)]).toEqual([1, 4, 2, 5, 3, 6]);
});
