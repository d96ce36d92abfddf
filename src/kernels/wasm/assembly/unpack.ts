import { F16, BF16, F32, B8, B8M, B8H, B4Z, B4M } from "./abi";

// A panel is 16 output rows. These functions turn a part of one into what the many-row tiles read:
// float formats into f32 [k][16], integer formats into int16 pairs [k/2][16 rows][2].

/** Four float16 in the low halves of the lanes to f32; infinities and NaN too. */
@inline
function widenHalf(h: v128): v128 {
  const magnitude = i32x4.shl(v128.and(h, i32x4.splat(0x7fff)), 13);
  const sign = i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16);
  const scaled = f32x4.mul(magnitude, f32x4.splat(5.192296858534828e33)); // 2^112 repairs the exponent
  const special = v128.and(i32x4.ge_u(magnitude, i32x4.splat(0x0f800000)), i32x4.splat(0x7f800000));
  return v128.or(v128.or(scaled, special), sign);
}
/** Rows 0..3 of a stored vector of eight 16-bit floats (even places). */
@inline
export function lowHalf(v: v128, format: i32): v128 {
  return format == BF16 ? i32x4.shl(v, 16) : widenHalf(v128.and(v, i32x4.splat(0xffff)));
}
/** Rows 4..7 (odd places). */
@inline
export function highHalf(v: v128, format: i32): v128 {
  // Two shifts, not a mask: V8 makes a mask's constant anew in every turn of a loop.
  const high = i32x4.shr_u(v, 16);
  return format == BF16 ? i32x4.shl(high, 16) : widenHalf(high);
}

export function unpackHalf(p: usize, count: i32, out: usize, format: i32): void {
  for (let k = 0; k < count; k++) {
    const a = v128.load(p), b = v128.load(p, 16);
    v128.store(out, lowHalf(a, format));
    v128.store(out, highHalf(a, format), 16);
    v128.store(out, lowHalf(b, format), 32);
    v128.store(out, highHalf(b, format), 48);
    p += 32;
    out += 64;
  }
}

/** Bytes of one group's integers, and of the whole group with its scales and minima. */
@inline
export function groupBytes(format: i32): usize {
  return format == B8 ? 576 : format == B8M ? 640 : format == B8H ? 320 : format == B4Z ? 320 : 384;
}
@inline
export function dataBytes(format: i32): usize {
  return format == B8 || format == B8M ? 512 : 256;
}

/** `pairs` pairs of k of one group of an 8-bit panel to int16 [pair][16 rows][2]. */
@inline
export function unpack8(p: usize, pairs: i32, out: usize): void {
  for (let j = 0; j < pairs; j++) {
    v128.store(out, v128.load_ext<i8>(p));
    v128.store(out, v128.load_ext<i8>(p, 8), 16);
    v128.store(out, v128.load_ext<i8>(p, 16), 32);
    v128.store(out, v128.load_ext<i8>(p, 24), 48);
    p += 32;
    out += 64;
  }
}
/** One group of a 4-bit panel to int16 [16 pairs][16 rows][2], minus `zero` (8 or 0). */
@inline
export function unpack4(p: usize, out: usize, zero: i32): void {
  const m15 = i8x16.splat(15), z = i16x8.splat(<i16>zero);
  for (let j = 0; j < 8; j++) {
    const a = v128.load(p), b = v128.load(p, 16);
    const al = v128.and(a, m15), ah = i8x16.shr_u(a, 4), bl = v128.and(b, m15), bh = i8x16.shr_u(b, 4);
    v128.store(out, i16x8.sub(i16x8.extend_low_i8x16_u(al), z));
    v128.store(out, i16x8.sub(i16x8.extend_high_i8x16_u(al), z), 16);
    v128.store(out, i16x8.sub(i16x8.extend_low_i8x16_u(bl), z), 32);
    v128.store(out, i16x8.sub(i16x8.extend_high_i8x16_u(bl), z), 48);
    v128.store(out, i16x8.sub(i16x8.extend_low_i8x16_u(ah), z), 64);
    v128.store(out, i16x8.sub(i16x8.extend_high_i8x16_u(ah), z), 80);
    v128.store(out, i16x8.sub(i16x8.extend_low_i8x16_u(bh), z), 96);
    v128.store(out, i16x8.sub(i16x8.extend_high_i8x16_u(bh), z), 112);
    p += 32;
    out += 128;
  }
}

/** Row `row` (0..15) of a panel, widened to f32 [K]. Plain and slow: only embeddings and checks read it. */
export function widenRow(format: i32, panel: usize, row: i32, K: i32, out: usize): void {
  if (format == F32) {
    for (let k = 0; k < K; k++) store<f32>(out + (<usize>k << 2), load<f32>(panel + (<usize>k << 6) + (<usize>row << 2)));
    return;
  }
  if (format == F16 || format == BF16) {
    const place: usize = <usize>((row >> 3 << 3) + ((row & 3) << 1) + ((row >> 2) & 1)) << 1;
    for (let k = 0; k < K; k++) {
      const h = v128.splat<i32>(<i32>load<u16>(panel + (<usize>k << 5) + place));
      store<f32>(out + (<usize>k << 2), f32x4.extract_lane(lowHalf(h, format), 0));
    }
    return;
  }
  const size = format == B8H ? 16 : 32;
  const bytes = groupBytes(format), data = dataBytes(format);
  const four = format == B4Z || format == B4M;
  const hasMin = format == B8M || format == B4M;
  for (let k0 = 0; k0 < K; k0 += size) {
    const s = load<f32>(panel + data + (<usize>row << 2));
    for (let i = 0; i < size; i++) {
      let q = 0;
      if (four) {
        const byte = <i32>load<u8>(panel + <usize>((i >> 2 << 5) + (row << 1) + (i & 1)));
        q = (i & 2 ? byte >> 4 : byte & 15) - (format == B4Z ? 8 : 0);
      } else q = <i32>load<i8>(panel + <usize>((i >> 1 << 5) + (row << 1) + (i & 1)));
      // Without a minimum nothing is added: s·0 keeps its sign.
      const v = s * <f32>q;
      store<f32>(out + (<usize>(k0 + i) << 2), hasMin ? v + load<f32>(panel + data + 64 + (<usize>row << 2)) : v);
    }
    panel += bytes;
  }
}
