import { QUANT_BLOCK, QUANT_REST, QUANT_SCALE, QUANT_SUM, QUANT_ZERO, quantRest } from "./abi";
import { act4, max4, sum4 } from "./math";

// Ops on single rows. Widths need not be multiples of four: buffers are padded to 16 columns and rows are read in
// fours only where a whole four belongs to the row.

/** Normalises groups of columns of one row; weight and bias may be 0 (none); `shared`: one weight for all groups. */
export function normRow(x: usize, out: usize, columns: i32, group: i32, rms: bool, eps: f32, weight: usize, bias: usize, shared: bool): void {
  const bytes = <usize>group << 2;
  for (let c = 0; c < columns; c += group) {
    let mean: f64 = 0;
    if (!rms) {
      for (let i: usize = 0; i < bytes; i += 4) mean += load<f32>(x + i);
      mean /= <f64>group;
    }
    const m = f32x4.splat(<f32>mean);
    let acc = f32x4.splat(0), i: usize = 0;
    const whole = bytes & ~15;
    for (; i < whole; i += 16) {
      const v = rms ? v128.load(x + i) : f32x4.sub(v128.load(x + i), m);
      acc = f32x4.add(acc, f32x4.mul(v, v));
    }
    let sum = sum4(acc);
    for (; i < bytes; i += 4) {
      const v = rms ? load<f32>(x + i) : load<f32>(x + i) - <f32>mean;
      sum += v * v;
    }
    const r: f32 = 1 / sqrt<f32>(sum / <f32>group + eps);
    const rv = f32x4.splat(r);
    for (i = 0; i < whole; i += 16) {
      let v = rms ? v128.load(x + i) : f32x4.sub(v128.load(x + i), m);
      v = f32x4.mul(v, rv);
      if (weight) v = f32x4.mul(v, v128.load(weight + i));
      if (bias) v = f32x4.add(v, v128.load(bias + i));
      v128.store(out + i, v);
    }
    for (; i < bytes; i += 4) {
      let v = (rms ? load<f32>(x + i) : load<f32>(x + i) - <f32>mean) * r;
      if (weight) v *= load<f32>(weight + i);
      if (bias) v += load<f32>(bias + i);
      store<f32>(out + i, v);
    }
    x += bytes;
    out += bytes;
    if (!shared) {
      if (weight) weight += bytes;
      if (bias) bias += bytes;
    }
  }
}

/** A block whose largest number is this many times the row's root mean square is rounded twice. */
const OUTLIER: f32 = 8;

/**
 * Rounds a row to int16 for integer weights, blocks of 32 with a scale each; K is a multiple of 32. A large number costs
 * its block's small ones their digits: of such a block what rounding left is rounded again, quantRest(K) bytes behind it.
 * In SmolLM2 4 blocks of 100 are such, and without their second rounding log-probabilities were 3 times as far off.
 * A block with NaN or infinity gets a NaN scale, so that it cannot pass unseen.
 */
export function quantRow(x: usize, K: i32, out: usize, scratch: usize): void {
  const away = quantRest(K);
  let squares = f32x4.splat(0);
  for (let i: usize = 0; i < <usize>K << 2; i += 16) squares = f32x4.add(squares, f32x4.mul(v128.load(x + i), v128.load(x + i)));
  const limit = OUTLIER * sqrt<f32>(sum4(squares) / <f32>K);
  for (let g = 0; g < K >> 5; g++) {
    const scale = quantBlock(x, out), again = scale * 32767 > limit;
    store<i32>(out, again, QUANT_REST);
    if (again) {
      remainder(x, out, scratch);
      quantBlock(scratch, out + away);
      // Minima meet the sum of both.
      store<f32>(out, load<f32>(out, QUANT_SUM) + load<f32>(out + away, QUANT_SUM), QUANT_SUM);
    } else for (let i: usize = 0; i < QUANT_BLOCK; i += 16) v128.store(out + away + i, i32x4.splat(0));
    x += 128;
    out += QUANT_BLOCK;
  }
}
/** What a first quantisation left of a block: x - scale·int16, exact in float32 but for the last bit. */
@inline
function remainder(x: usize, first: usize, rest: usize): void {
  const s = v128.load32_splat(first + QUANT_SCALE);
  for (let i: usize = 0; i < 128; i += 16)
    v128.store(rest + i, f32x4.sub(v128.load(x + i), f32x4.mul(s, f32x4.convert_i32x4_s(v128.load_ext<i16>(first + (i >> 1))))));
}
/** Returns the block's scale. */
function quantBlock(x: usize, out: usize): f32 {
  // As integers, magnitudes are ordered as they are as floats, and NaN stands above all.
  let m = f32x4.abs(v128.load(x));
  for (let i: usize = 16; i < 128; i += 16) m = i32x4.max_s(m, f32x4.abs(v128.load(x + i)));
  const top = max4(m);
  // Below the smallest normal number the inverse overflows: such a block is zero to any other term.
  const inv: f32 = top > 1e-30 ? 32767 / top : 0;
  // Adding 1.5·2^23 rounds to a whole number, which then stands in the low bits.
  const iv = f32x4.splat(inv), magic = f32x4.splat(12582912);
  let sum = i32x4.splat(0);
  for (let i: usize = 0; i < 128; i += 32) {
    const a = i32x4.sub(f32x4.add(f32x4.mul(v128.load(x + i), iv), magic), magic);
    const b = i32x4.sub(f32x4.add(f32x4.mul(v128.load(x + i, 16), iv), magic), magic);
    sum = i32x4.add(sum, i32x4.add(a, b));
    v128.store(out + (i >> 1), i16x8.narrow_i32x4_s(a, b));
  }
  const total = i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1) + i32x4.extract_lane(sum, 2) + i32x4.extract_lane(sum, 3);
  const scale: f32 = top <= f32.MAX_VALUE ? top / 32767 : f32.NaN;
  store<f32>(out + QUANT_SCALE, scale);
  store<f32>(out + QUANT_SUM, <f32>total * scale);
  store<i32>(out + QUANT_ZERO, -8 * total);
  return scale;
}

/** Rotary positions on `heads` heads of one row; table: cos [pairs], sin [pairs] of this row's position. */
export function ropeRow(x: usize, heads: i32, headDim: i32, pairs: i32, interleaved: bool, table: usize): void {
  const sin = table + (<usize>pairs << 2), half = <usize>pairs << 2;
  for (let h = 0; h < heads; h++) {
    let i: usize = 0;
    if (!interleaved) {
      for (; i + 16 <= half; i += 16) {
        const a = v128.load(x + i), b = v128.load(x + half + i), c = v128.load(table + i), s = v128.load(sin + i);
        v128.store(x + i, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)));
        v128.store(x + half + i, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)));
      }
    } else {
      for (; i + 16 <= half; i += 16) {
        const p = v128.load(x + (i << 1)), q = v128.load(x + (i << 1), 16), c = v128.load(table + i), s = v128.load(sin + i);
        const a = v128.shuffle<i32>(p, q, 0, 2, 4, 6), b = v128.shuffle<i32>(p, q, 1, 3, 5, 7);
        const u = f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)), v = f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s));
        v128.store(x + (i << 1), v128.shuffle<i32>(u, v, 0, 4, 1, 5));
        v128.store(x + (i << 1), v128.shuffle<i32>(u, v, 2, 6, 3, 7), 16);
      }
    }
    for (; i < half; i += 4) {
      const at = interleaved ? x + (i << 1) : x + i, to = interleaved ? at + 4 : at + half;
      const a = load<f32>(at), b = load<f32>(to), c = load<f32>(table + i), s = load<f32>(sin + i);
      store<f32>(at, a * c - b * s);
      store<f32>(to, b * c + a * s);
    }
    x += <usize>headDim << 2;
  }
}

/** Element by element over columns of one row, `bytes` a multiple of 16. kind: 0 act, 1 gate (· up), 2 add, 3 scale, 4 copy. */
@inline
export function elementwise(kind: i32, act: i32, a: usize, b: usize, out: usize, bytes: usize, by: f32): void {
  for (let i: usize = 0; i < bytes; i += 16) {
    const x = v128.load(a + i);
    let y: v128;
    if (kind == 0) y = act4(act, x);
    else if (kind == 1) y = f32x4.mul(act4(act, x), v128.load(b + i));
    else if (kind == 2) y = f32x4.add(x, v128.load(b + i));
    else if (kind == 3) y = f32x4.mul(x, f32x4.splat(by));
    else y = x;
    v128.store(out + i, y);
  }
}
