import { InputError } from "../../errors.js";
import { BLOCKS, type StoredType } from "../format.js";

/** The stored types that float32 numbers can be rounded to here. */
export type QuantizedType = Extract<StoredType, "f32" | "f16" | "Q8_0" | "Q4_0" | "Q4_1" | "Q5_0" | "Q5_1">;

/**
 * The way back of `widen`: float32 numbers to stored ones.
 *
 * One function a format; each reads `BLOCKS[type].size` numbers at `from` and writes one block at byte `at`. Every
 * product, quotient and sum is rounded to float32, as in ggml's `quantize_row_*_ref` (ggml-quants.c, compiled without
 * fused multiply-adds) and gguf-py's `quants.py`: the blocks equal theirs bit for bit.
 */
type Quantize = (x: Float32Array, from: number, b: DataView, at: number) => void;

const { abs, floor, fround, max, min, trunc } = Math;

/** Least magnitude that rounds to no finite half. */
const HALF_OVERFLOW = 65520;

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** Writes the half nearest to a float32 number, ties to even: a block's scale or minimum, or a number of its own. */
function putHalf(b: DataView, at: number, x: number): void {
  const magnitude = abs(x);
  if (!(magnitude < HALF_OVERFLOW))
    throw new RangeError(`${x} is beyond half precision, whose largest number is 65504`);
  scratch[0] = magnitude;
  const word = scratchBits[0];
  // Of a normal number (from 2^-14) the exponent is counted from another origin, and 13 bits of the fraction are rounded
  // away: a carry raises the exponent by itself. Below, halves are multiples of 2^-24; adding 2^52 leaves no fraction.
  const half =
    magnitude >= 2 ** -14
      ? (word - (112 << 23) + 0xfff + ((word >>> 13) & 1)) >>> 13
      : magnitude * 2 ** 24 + 2 ** 52 - 2 ** 52;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  b.setUint16(at, sign | half, true);
}

/** C's roundf: ties away from zero. */
function nearestAway(x: number): number {
  const down = floor(abs(x));
  const away = abs(x) - down >= 0.5 ? down + 1 : down;
  return x < 0 ? -away : away;
}

/** 1 / d, or 0 where all numbers of a block round to 0: d is 0, or so small that 1 / d overflows (undefined in C). */
function inverse(d: number): number {
  const inverse = fround(1 / d);
  return abs(inverse) < Infinity ? inverse : 0;
}

const f32: Quantize = (x, from, b, at) => b.setFloat32(at, x[from], true);

const f16: Quantize = (x, from, b, at) => putHalf(b, at, x[from]);

const Q8_0: Quantize = (x, from, b, at) => {
  let largest = 0;
  for (let i = 0; i < 32; i++) largest = max(largest, abs(x[from + i]));
  const d = fround(largest / 127);
  const id = inverse(d);
  putHalf(b, at, d);
  for (let i = 0; i < 32; i++) b.setInt8(at + 2 + i, nearestAway(fround(x[from + i] * id)));
};

/** Q4_0, Q5_0: w = d·(q - 2^(bits-1)), with d such that the number of the largest magnitude has q = 0. */
const symmetric =
  (bits: 4 | 5): Quantize =>
  (x, from, b, at) => {
    let largest = 0;
    for (let i = 0; i < 32; i++) if (abs(x[from + i]) > abs(largest)) largest = x[from + i];
    const middle = 2 ** (bits - 1);
    const d = fround(largest / -middle);
    const id = inverse(d);
    putHalf(b, at, d);
    putBits(b, at + 2, bits, (i) => trunc(fround(fround(x[from + i] * id) + (middle + 0.5))));
  };

/** Q4_1, Q5_1: w = d·q + m, with m the least number and d such that the greatest has the last q. */
const affine =
  (bits: 4 | 5): Quantize =>
  (x, from, b, at) => {
    let [least, greatest] = [x[from], x[from]];
    for (let i = 1; i < 32; i++) {
      const value = x[from + i];
      if (value < least) least = value;
      if (value > greatest) greatest = value;
    }
    const d = fround(fround(greatest - least) / (2 ** bits - 1));
    const id = inverse(d);
    putHalf(b, at, d);
    putHalf(b, at + 2, least);
    putBits(b, at + 4, bits, (i) => trunc(fround(fround(fround(x[from + i] - least) * id) + 0.5)));
  };

/** 32 whole numbers: the fifth bits, if any, as a mask, then nibbles (0..15 low halves, 16..31 high ones). */
function putBits(b: DataView, at: number, bits: 4 | 5, q: (i: number) => number): void {
  let [mask, nibbles] = [0, at];
  if (bits === 5) nibbles += 4;
  for (let i = 0; i < 16; i++) {
    const low = min(q(i), 2 ** bits - 1);
    const high = min(q(i + 16), 2 ** bits - 1);
    b.setUint8(nibbles + i, (low & 15) | ((high & 15) << 4));
    mask |= ((low >> 4) << i) | ((high >> 4) << (i + 16));
  }
  if (bits === 5) b.setUint32(at, mask >>> 0, true);
}

const WRITERS: Record<QuantizedType, Quantize> = {
  f32,
  f16,
  Q8_0,
  Q4_0: symmetric(4),
  Q4_1: affine(4),
  Q5_0: symmetric(5),
  Q5_1: affine(5),
};

/**
 * Float32 numbers as a checkpoint stores them, little-endian, in whole blocks: f16 rounded to nearest even, the block
 * formats as ggml's reference rounds them.
 * @param what whose numbers these are, for messages
 * @throws InputError for numbers that are no whole blocks, not finite, or too large for the type
 */
export function quantize(type: QuantizedType, numbers: Float32Array, what: string): Uint8Array {
  if (!Object.hasOwn(WRITERS, type))
    throw new InputError(
      `${what}: can't be stored as ${type}; the types are ${Object.keys(WRITERS).join(", ")}`,
    );
  const { size, bytes } = BLOCKS[type];
  if (numbers.length % size !== 0)
    throw new InputError(
      `${what}: ${numbers.length} numbers are not a whole number of ${type} blocks of ${size}`,
    );
  const bad = numbers.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0)
    throw new InputError(
      `${what}: number ${bad} is ${numbers[bad]}; expected finite ones: the weights are damaged`,
    );
  const out = new Uint8Array((numbers.length / size) * bytes);
  const view = new DataView(out.buffer);
  const write = WRITERS[type];
  for (let from = 0, at = 0; from < numbers.length; from += size, at += bytes)
    try {
      write(numbers, from, view, at);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new InputError(
        `${what}: number ${from}${size > 1 ? ` to ${from + size - 1}` : ""} can't be stored as ${type}: ${error.message}; store them as f32`,
      );
    }
  return out;
}
