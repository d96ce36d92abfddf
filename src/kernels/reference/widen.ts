import { InputError } from "../../errors.js";
import { BLOCKS, type StoredType } from "../format.js";

/**
 * Stored numbers to float32: the reading of every storage format, as plain as it can be said.
 *
 * One function a format; each reads one block at byte `at` and writes `BLOCKS[type].size` numbers at `to`.
 * In all of them w = s·q + m with s·q exact in a double, so the one rounding is the store into a Float32Array:
 * the results equal gguf-py's (and llama.cpp's) bit for bit.
 */
type Widen = (b: DataView, at: number, out: Float32Array, to: number) => void;

/** The number with these 16 bits of IEEE half precision. */
export function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

const half = (b: DataView, at: number): number => halfToFloat(b.getUint16(at, true));

const f32: Widen = (b, at, out, to) => {
  out[to] = b.getFloat32(at, true);
};

const f16: Widen = (b, at, out, to) => {
  out[to] = half(b, at);
};

const scratch = new DataView(new ArrayBuffer(4));

/** A bfloat16 is the upper half of a float32. */
const bf16: Widen = (b, at, out, to) => {
  scratch.setUint16(0, b.getUint16(at, true));
  out[to] = scratch.getFloat32(0);
};

const Q8_0: Widen = (b, at, out, to) => {
  const d = half(b, at);
  for (let i = 0; i < 32; i++) out[to + i] = d * b.getInt8(at + 2 + i);
};

/** Four bits of 16 bytes: numbers 0..15 are the low halves, 16..31 the high ones. */
const nibble = (b: DataView, at: number, i: number): number =>
  (b.getUint8(at + (i % 16)) >> (i < 16 ? 0 : 4)) & 15;

const Q4_0: Widen = (b, at, out, to) => {
  const d = half(b, at);
  for (let i = 0; i < 32; i++) out[to + i] = d * (nibble(b, at + 2, i) - 8);
};

const Q4_1: Widen = (b, at, out, to) => {
  const d = half(b, at);
  const m = half(b, at + 2);
  for (let i = 0; i < 32; i++) out[to + i] = d * nibble(b, at + 4, i) + m;
};

/** A nibble with its fifth bit, which stands in a 32-bit mask. */
const five = (b: DataView, mask: number, nibbles: number, i: number): number =>
  nibble(b, nibbles, i) | (((b.getUint32(mask, true) >>> i) & 1) << 4);

const Q5_0: Widen = (b, at, out, to) => {
  const d = half(b, at);
  for (let i = 0; i < 32; i++) out[to + i] = d * (five(b, at + 2, at + 6, i) - 16);
};

const Q5_1: Widen = (b, at, out, to) => {
  const d = half(b, at);
  const m = half(b, at + 2);
  for (let i = 0; i < 32; i++) out[to + i] = d * five(b, at + 4, at + 8, i) + m;
};

/** Scale and minimum of group j < 8 of a K block: eight pairs of six-bit numbers in the 12 bytes at `sc`. */
function scaleAndMin(b: DataView, sc: number, j: number): [scale: number, min: number] {
  const u8 = (i: number): number => b.getUint8(sc + i);
  if (j < 4) return [u8(j) & 63, u8(j + 4) & 63];
  return [(u8(j + 4) & 15) | ((u8(j - 4) >> 6) << 4), (u8(j + 4) >> 4) | ((u8(j) >> 6) << 4)];
}

/** Q4_K and Q5_K: eight groups of 32 with w = d·scale·q - dmin·min; `q` reads the integer of element i. */
function groupsOf32(b: DataView, at: number, out: Float32Array, to: number, q: (i: number) => number): void {
  const d = half(b, at);
  const dmin = half(b, at + 2);
  for (let j = 0; j < 8; j++) {
    const [scale, min] = scaleAndMin(b, at + 4, j);
    for (let i = 32 * j; i < 32 * j + 32; i++) out[to + i] = d * scale * q(i) - dmin * min;
  }
}

/** Nibble of element i of a K block: 64 numbers share 32 bytes, the first 32 in the low halves. */
const kNibble = (b: DataView, qs: number, i: number): number =>
  (b.getUint8(qs + 32 * (i >> 6) + (i % 32)) >> (i % 64 < 32 ? 0 : 4)) & 15;

const Q4_K: Widen = (b, at, out, to) => groupsOf32(b, at, out, to, (i) => kNibble(b, at + 16, i));

const Q5_K: Widen = (b, at, out, to) =>
  groupsOf32(b, at, out, to, (i) => {
    const fifth = (b.getUint8(at + 16 + (i % 32)) >> (i >> 5)) & 1;
    return kNibble(b, at + 48, i) | (fifth << 4);
  });

/** Sixteen groups of 16: w = d·scale·(q - 32), q of four low and two high bits. */
const Q6_K: Widen = (b, at, out, to) => {
  const d = half(b, at + 208);
  for (let i = 0; i < 256; i++) {
    const half128 = i >> 7;
    const low = (b.getUint8(at + 64 * half128 + (i % 64)) >> (i % 128 < 64 ? 0 : 4)) & 15;
    const high = (b.getUint8(at + 128 + 32 * half128 + (i % 32)) >> (2 * ((i % 128) >> 5))) & 3;
    out[to + i] = d * b.getInt8(at + 192 + (i >> 4)) * ((low | (high << 4)) - 32);
  }
};

const READERS: Record<StoredType, Widen> = {
  f32,
  f16,
  bf16,
  Q8_0,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q4_K,
  Q5_K,
  Q6_K,
};

/**
 * `count` stored numbers as float32, exactly what the file holds (NaN and infinities too).
 * `bytes` are as stored, little-endian, in whole blocks; `count` is a multiple of the block's size.
 * @throws InputError when the bytes are not those of `count` numbers.
 */
export function widen(type: StoredType, bytes: Uint8Array, count: number): Float32Array {
  const block = BLOCKS[type];
  const wanted = (count / block.size) * block.bytes;
  if (count % block.size !== 0)
    throw new InputError(`${count} numbers are not a whole number of ${type} blocks of ${block.size}`);
  if (bytes.byteLength !== wanted)
    throw new InputError(
      `${count} numbers stored as ${type} take ${wanted} bytes, but ${bytes.byteLength} came`,
    );
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = new Float32Array(count);
  const read = READERS[type];
  for (let at = 0, to = 0; to < count; at += block.bytes, to += block.size) read(view, at, out, to);
  return out;
}
