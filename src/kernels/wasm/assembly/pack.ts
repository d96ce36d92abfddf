import { B4M, B4Z, B8, B8H, B8M, BF16, CTL, CTL_FAULT, CTL_FAULT_AT, F16, F32, FAULT_NOT_FINITE } from "./abi";
import { dataBytes, groupBytes, widenOne } from "./unpack";

// From a checkpoint's rows to panels of 16 rows. Stored types, numbered as in the host's abi.ts:
const S_F32 = 0, S_F16 = 1, S_BF16 = 2, S_Q8_0 = 3, S_Q4_0 = 4, S_Q4_1 = 5, S_Q5_0 = 6, S_Q5_1 = 7, S_Q4_K = 8, S_Q5_K = 9, S_Q6_K = 10;

@inline
function half(p: usize): f32 {
  return widenOne(load<u16>(p), F16);
}
function fault(row: i32): void {
  if (atomic.cmpxchg<i32>(CTL + CTL_FAULT, 0, FAULT_NOT_FINITE) == 0) atomic.store<i32>(CTL + CTL_FAULT_AT, row);
}
@inline
function finite(x: f32): bool {
  return abs(x) <= f32.MAX_VALUE;
}

/** Packs up to 16 rows into the panel at `to`; missing rows stay zero. row: number of the first, for faults. */
export function packPanel(stored: i32, format: i32, from: usize, rowBytes: usize, rows: i32, K: i32, to: usize, panelBytes: usize, row: i32, scratch: usize): void {
  memory.fill(to, 0, panelBytes);
  for (let r = 0; r < rows; r++, from += rowBytes) {
    if (stored == S_F32) packFloats(from, K, to + (<usize>r << 2), row + r);
    else if (stored == S_F16 || stored == S_BF16) packHalves(stored, from, K, to, r, row + r);
    else if (stored == S_Q8_0) pack32(S_Q8_0, B8, from, K, to, r, row, scratch);
    else if (stored == S_Q4_0) pack32(S_Q4_0, B4Z, from, K, to, r, row, scratch);
    else if (stored == S_Q4_1) pack32(S_Q4_1, B4M, from, K, to, r, row, scratch);
    else if (stored == S_Q5_0) pack32(S_Q5_0, B8, from, K, to, r, row, scratch);
    else if (stored == S_Q5_1) pack32(S_Q5_1, B8M, from, K, to, r, row, scratch);
    else if (stored == S_Q4_K) packK(true, from, K, to, r, row, scratch);
    else if (stored == S_Q5_K) packK(false, from, K, to, r, row, scratch);
    else packQ6(from, K, to, r, row, scratch);
  }
}

function packFloats(from: usize, K: i32, to: usize, row: i32): void {
  for (let k = 0; k < K; k++, from += 4, to += 64) {
    const x = load<f32>(from);
    if (!finite(x)) fault(row);
    store<f32>(to, x);
  }
}
function packHalves(stored: i32, from: usize, K: i32, to: usize, r: i32, row: i32): void {
  const mask: u32 = stored == S_F16 ? 0x7c00 : 0x7f80;
  to += <usize>((r >> 3 << 3) + ((r & 3) << 1) + ((r >> 2) & 1)) << 1;
  for (let k = 0; k < K; k++, from += 2, to += 32) {
    const x = load<u16>(from);
    if ((<u32>x & mask) == mask) fault(row);
    store<u16>(to, x);
  }
}

/** Scatters one group's integers q (int8 [size], or nibbles) and its scale and minimum into the panel. */
@inline
function putGroup(format: i32, q: usize, group: i32, to: usize, r: i32, s: f32, m: f32, row: i32): void {
  const p = to + <usize>group * groupBytes(format), at = p + (<usize>r << 1);
  if (!finite(s) || !finite(m)) fault(row + r);
  if (format == B4Z || format == B4M) {
    for (let j: usize = 0; j < 8; j++) {
      const u = load<u32>(q + (j << 2));
      // k, k+1 go to the low nibbles, k+2, k+3 to the high ones.
      store<u16>(at + (j << 5), <u16>((u & 0x0f0f) | ((u >> 12) & 0xf0f0)));
    }
  } else {
    const pairs: usize = format == B8H ? 8 : 16;
    for (let j: usize = 0; j < pairs; j++) store<u16>(at + (j << 5), load<u16>(q + (j << 1)));
  }
  const scales = p + dataBytes(format) + (<usize>r << 2);
  store<f32>(scales, s);
  if (format == B4M || format == B8M) store<f32>(scales + 64, m);
}

/** Nibbles of 16 bytes to 32 bytes: low ones first. */
@inline
function nibbles(p: usize, q: usize): void {
  const v = v128.load(p);
  v128.store(q, v128.and(v, i8x16.splat(15)));
  v128.store(q, i8x16.shr_u(v, 4), 16);
}
/** Adds bit i of `bits` as 16 to byte i. */
@inline
function fifthBits(q: usize, bits: u32): void {
  for (let i: usize = 0; i < 32; i++) store<u8>(q + i, load<u8>(q + i) | <u8>(((bits >> <u32>i) & 1) << 4));
}

@inline
function pack32(stored: i32, format: i32, p: usize, K: i32, to: usize, r: i32, row: i32, q: usize): void {
  for (let g = 0; g < K >> 5; g++) {
    const s = half(p);
    let m: f32 = 0;
    if (stored == S_Q8_0) {
      putGroup(format, p + 2, g, to, r, s, 0, row);
      p += 34;
      continue;
    }
    if (stored == S_Q4_0) {
      nibbles(p + 2, q);
      p += 18;
    } else if (stored == S_Q4_1) {
      m = half(p + 2);
      nibbles(p + 4, q);
      p += 20;
    } else if (stored == S_Q5_0) {
      nibbles(p + 6, q);
      fifthBits(q, load<u32>(p + 2));
      for (let i: usize = 0; i < 32; i += 16) v128.store(q + i, i8x16.sub(v128.load(q + i), i8x16.splat(16)));
      p += 22;
    } else {
      m = half(p + 2);
      nibbles(p + 8, q);
      fifthBits(q, load<u32>(p + 4));
      p += 24;
    }
    putGroup(format, q, g, to, r, s, m, row);
  }
}

/** Q4_K and Q5_K: super-blocks of 256 with eight 6-bit scales and minima. */
@inline
function packK(four: bool, p: usize, K: i32, to: usize, r: i32, row: i32, q: usize): void {
  for (let b = 0; b < K >> 8; b++) {
    const d = half(p), dmin = half(p + 2), sc = p + 4, qh = p + 16, qs = four ? p + 16 : p + 48;
    for (let j: usize = 0; j < 8; j++) {
      let S: i32, M: i32;
      if (j < 4) {
        S = load<u8>(sc + j) & 63;
        M = load<u8>(sc + j + 4) & 63;
      } else {
        S = (load<u8>(sc + j + 4) & 15) | ((load<u8>(sc + j - 4) >> 6) << 4);
        M = (load<u8>(sc + j + 4) >> 4) | ((load<u8>(sc + j) >> 6) << 4);
      }
      const base = qs + ((j >> 1) << 5), shift = <i32>(j & 1) << 2;
      for (let i: usize = 0; i < 32; i++) {
        let v = (<i32>load<u8>(base + i) >> shift) & 15;
        if (!four) v |= ((<i32>load<u8>(qh + i) >> <i32>j) & 1) << 4;
        store<u8>(q + i, <u8>v);
      }
      const s = d * <f32>S, m = -(dmin * <f32>M);
      if (four) putGroup(B4M, q, (b << 3) + <i32>j, to, r, s, m, row);
      else putGroup(B8M, q, (b << 3) + <i32>j, to, r, s, m, row);
    }
    p += four ? 144 : 176;
  }
}

function packQ6(p: usize, K: i32, to: usize, r: i32, row: i32, q: usize): void {
  for (let b = 0; b < K >> 8; b++) {
    const d = half(p + 208);
    for (let g = 0; g < 16; g++) {
      for (let e = 0; e < 16; e++) {
        const i = (g << 4) + e, h = i >> 7, w = i & 127;
        const lo = (load<u8>(p + <usize>((h << 6) + (w & 63))) >> <u8>(w < 64 ? 0 : 4)) & 15;
        const hi = (load<u8>(p + 128 + <usize>((h << 5) + (w & 31))) >> <u8>((w >> 5) << 1)) & 3;
        store<i8>(q + <usize>e, <i8>((lo | (hi << 4)) - 32));
      }
      putGroup(B8H, q, (b << 4) + g, to, r, d * <f32>load<i8>(p + 192 + <usize>g), 0, row);
    }
    p += 210;
  }
}
