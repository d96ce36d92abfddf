// What the head benchmarks share: device matrices from arrays, queries, and checks of answers.
import { openDevice } from "../dist/kernels/open.js";
import { threads } from "./lib.mjs";

export const open = () => openDevice({ device: "wasm", threads });

/** Narrows float32 to bf16 bits, to the nearest, ties to even. */
export function toBf16(values) {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) out[i] = (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) >>> 16;
  return out;
}

/** What bf16 bits stand for. */
export function fromBf16(bits) {
  const out = new Float32Array(bits.length);
  const view = new Uint32Array(out.buffer);
  for (let i = 0; i < bits.length; i++) view[i] = bits[i] << 16;
  return out;
}

/** A head's weights on the device: `values` is [V, D], float32 or (for "bf16") its bits. */
export async function headOf(device, values, V, D, type = "f32") {
  const all = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const row = all.length / V;
  const read = async (first, count) => all.subarray(first * row, (first + count) * row);
  const matrix = await device.matrix({ name: "bench", rows: V, cols: D, type, read });
  return { matrix, vocabSize: V, scale: 1 };
}

/** A query of a head that asks nothing but what is given. */
export const query = (fields) => ({
  topK: 0,
  rank: false,
  logSumExp: false,
  entropy: false,
  logits: false,
  ...fields,
});

/** One exact logit: the product in float64. */
export function dot(weight, hidden, row, D) {
  let sum = 0;
  for (let d = 0; d < D; d++) sum += weight[row * D + d] * hidden[d];
  return sum;
}

/** Whether two lists of numbers are equal, element by element. */
export const equal = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);
