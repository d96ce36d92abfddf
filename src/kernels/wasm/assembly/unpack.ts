import { F16, BF16, F32, B8, B8M, B8H, B4Z, B4M } from "./abi";

// A panel is 16 output rows. These functions turn a part of one into what the many-row tiles read:
// float formats into f32 [k][16], integer formats into int16 pairs [k/2][16 rows][2].

// Vectors that loops need are splat from memory before the loop: V8 builds a constant one anew in every turn.
const VECTORS = memory.data<u32>([0x0f0f0f0f, 0xffff0000, 0x8fffe000, 0x77800000]);
/** 15 in every byte. */
@inline
export function lowNibbles(): v128 {
  return v128.load32_splat(VECTORS);
}
@inline
export function highNibbles(v: v128, m15: v128): v128 {
  return v128.and(i16x8.shr_u(v, 4), m15);
}
/** What keeps the bits of a 16-bit float in the upper half of a lane: all of a bf16; a float16's, after a shift by 3. */
@inline
export function halfMask(format: i32): v128 {
  return v128.load32_splat(VECTORS + (format == BF16 ? 4 : 8));
}
/** 2^112, by which a float16's exponent differs from a float32's. */
@inline
export function halfScale(): v128 {
  return v128.load32_splat(VECTORS, 12);
}

/** Rows 0..3 of a stored vector of eight 16-bit floats (even places), finite ones: others are refused when packed. */
@inline
export function lowHalf(v: v128, format: i32, mask: v128, scale: v128): v128 {
  const up = i32x4.shl(v, 16);
  return format == BF16 ? up : f32x4.mul(v128.and(i32x4.shr_s(up, 3), mask), scale);
}
/** Rows 4..7 (odd places). */
@inline
export function highHalf(v: v128, format: i32, mask: v128, scale: v128): v128 {
  return format == BF16 ? v128.and(v, mask) : f32x4.mul(v128.and(i32x4.shr_s(v, 3), mask), scale);
}
/** One float16 or bfloat16. */
export function widenOne(h: u32, format: i32): f32 {
  if (format == F16 && (h & 0x7c00) == 0x7c00) return h & 0x3ff ? f32.NaN : h & 0x8000 ? -Infinity : Infinity;
  return f32x4.extract_lane(lowHalf(i32x4.splat(h), format, halfMask(format), halfScale()), 0);
}

export function unpackHalf(p: usize, count: i32, out: usize, format: i32): void {
  const mask = halfMask(format), scale = halfScale();
  for (let k = 0; k < count; k++) {
    const a = v128.load(p), b = v128.load(p, 16);
    v128.store(out, lowHalf(a, format, mask, scale));
    v128.store(out, highHalf(a, format, mask, scale), 16);
    v128.store(out, lowHalf(b, format, mask, scale), 32);
    v128.store(out, highHalf(b, format, mask, scale), 48);
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
  const m15 = lowNibbles(), z = i16x8.splat(<i16>zero);
  for (let j = 0; j < 8; j++) {
    const a = v128.load(p), b = v128.load(p, 16);
    const al = v128.and(a, m15), ah = highNibbles(a, m15), bl = v128.and(b, m15), bh = highNibbles(b, m15);
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

/** Numbers of a row that fit a thread's scratch (SCRATCH_BYTES in ../abi.ts); longer rows are widened in pieces. */
export const PIECE: i32 = 65536;

/** Where number k, a multiple of 32, of a panel's rows stands. */
export function panelAt(format: i32, panel: usize, k: i32): usize {
  if (format == F32) return panel + (<usize>k << 6);
  if (format == F16 || format == BF16) return panel + (<usize>k << 5);
  return panel + <usize>(k / (format == B8H ? 16 : 32)) * groupBytes(format);
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
      store<f32>(out + (<usize>k << 2), widenOne(load<u16>(panel + (<usize>k << 5) + place), format));
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
