import type { MatrixSource } from "../../src/kernels/device.js";
import { BLOCKS, rowBytes, type StoredType } from "../../src/kernels/format.js";

/** Numbers in [-1, 1) from a seed (a 32-bit linear congruence: good enough to fill matrices). */
export function uniform(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  };
}

export function floats(length: number, seed: number, scale = 1): Float32Array {
  const next = uniform(seed);
  return Float32Array.from({ length }, () => next() * scale);
}

/** Offsets of the float16 fields of a block; all other bytes may be anything. */
const HALVES: Partial<Record<StoredType, number[]>> = {
  Q8_0: [0],
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
};

/** Random valid bytes of a stored matrix. */
export function storedBytes(type: StoredType, rows: number, cols: number, seed: number): Uint8Array {
  const next = uniform(seed);
  const bytes = new Uint8Array(rows * rowBytes(type, cols));
  const view = new DataView(bytes.buffer);
  if (type === "f32") for (let i = 0; i < rows * cols; i++) view.setFloat32(i * 4, next(), true);
  else if (type === "bf16" || type === "f16")
    // Sign, an exponent around the bias, any fraction.
    for (let i = 0; i < rows * cols; i++) {
      const r = Math.floor((next() + 1) * 2 ** 15);
      const fraction = type === "bf16" ? r & 0x7f : r & 0x3ff;
      const exponent = type === "bf16" ? (120 + ((r >> 7) & 7)) << 7 : (10 + ((r >> 10) & 3)) << 10;
      view.setUint16(i * 2, (r & 0x8000) | exponent | fraction, true);
    }
  else {
    for (let i = 0; i < bytes.length; i++) bytes[i] = Math.floor((next() + 1) * 128);
    const block = BLOCKS[type].bytes;
    for (let at = 0; at < bytes.length; at += block)
      // float16 near 2^-8, either sign
      for (const field of HALVES[type] ?? [])
        view.setUint16(at + field, 0x1800 | (Math.floor((next() + 1) * 2 ** 15) & 0x83ff), true);
  }
  return bytes;
}

export function bytesSource(
  name: string,
  type: StoredType,
  rows: number,
  cols: number,
  bytes: Uint8Array,
): MatrixSource {
  const row = rowBytes(type, cols);
  return {
    name,
    rows,
    cols,
    type,
    read: async (first, count) => bytes.subarray(first * row, (first + count) * row),
  };
}

export function floatSource(name: string, rows: number, cols: number, data: Float32Array): MatrixSource {
  return bytesSource(name, "f32", rows, cols, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

/** Random matrix of any stored type. */
export function randomSource(type: StoredType, rows: number, cols: number, seed: number): MatrixSource {
  return bytesSource(`random ${type}`, type, rows, cols, storedBytes(type, rows, cols, seed));
}

/** Largest |a - b| / (1 + |b|). */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    if (Object.is(a[i], b[i]) || a[i] === b[i]) continue;
    const d = Math.abs(a[i] - b[i]) / (1 + Math.abs(b[i]));
    if (!(d <= worst)) worst = Number.isNaN(d) ? Number.POSITIVE_INFINITY : d;
  }
  return worst;
}
