import { B4M, B4Z, B8H, B8M, QUANT_BLOCK, QUANT_REST, QUANT_SCALE, QUANT_SUM, QUANT_ZERO, quantBytes, quantRest } from "./abi";
import { mad, partialOf, store4 } from "./tile";
import { dataBytes, groupBytes, highNibbles, lowNibbles, unpack4, unpack8 } from "./unpack";

// Panels of 4-bit and 8-bit blocks: sums are exact inside a group, and run over the groups in order.

@inline
function dot(acc: v128, w: v128, x: v128): v128 {
  return i32x4.add(acc, i32x4.dot_i16x8_s(w, x));
}
@inline
function flush(acc: v128, ints: v128, scale: v128, x: v128): v128 {
  return f32x4.add(acc, f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(ints), scale), x));
}

/**
 * One quantised row times a panel of an integer format. x: a row as quantRow makes it. A block with a
 * large number meets its weights a second time, with what rounding left of it.
 */
@inline
export function integerRow(p: usize, x: usize, K: i32, out: usize, format: i32): void {
  const G = K >> 5, away = quantRest(K);
  let m0 = f32x4.splat(0), m1 = m0, m2 = m0, m3 = m0;
  let f0 = m0, f1 = m0, f2 = m0, f3 = m0;
  const m15 = lowNibbles();
  for (let g = 0; g < G; g++) {
    let again = load<i32>(x, QUANT_REST), block = x, q = p;
    for (;;) {
      const scale = v128.load32_splat(block, QUANT_SCALE);
      let s0 = format == B4Z ? v128.load32_splat(block, QUANT_ZERO) : i32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
      let y = block;
      q = p;
      if (format == B4Z || format == B4M) {
        for (let j = 0; j < 8; j++) {
          const u = v128.load32_splat(y), v = v128.load32_splat(y, 4), a = v128.load(q), b = v128.load(q, 16);
          const al = v128.and(a, m15), ah = highNibbles(a, m15), bl = v128.and(b, m15), bh = highNibbles(b, m15);
          s0 = dot(s0, i16x8.extend_low_i8x16_u(al), u);
          s1 = dot(s1, i16x8.extend_high_i8x16_u(al), u);
          s2 = dot(s2, i16x8.extend_low_i8x16_u(bl), u);
          s3 = dot(s3, i16x8.extend_high_i8x16_u(bl), u);
          s0 = dot(s0, i16x8.extend_low_i8x16_u(ah), v);
          s1 = dot(s1, i16x8.extend_high_i8x16_u(ah), v);
          s2 = dot(s2, i16x8.extend_low_i8x16_u(bh), v);
          s3 = dot(s3, i16x8.extend_high_i8x16_u(bh), v);
          q += 32;
          y += 8;
        }
      } else {
        for (let half = 0; half < (format == B8H ? 2 : 1); half++) {
          for (let j = 0; j < (format == B8H ? 4 : 8); j++) {
            const u = v128.load32_splat(y), v = v128.load32_splat(y, 4);
            s0 = dot(s0, v128.load_ext<i8>(q), u);
            s1 = dot(s1, v128.load_ext<i8>(q, 8), u);
            s2 = dot(s2, v128.load_ext<i8>(q, 16), u);
            s3 = dot(s3, v128.load_ext<i8>(q, 24), u);
            s0 = dot(s0, v128.load_ext<i8>(q, 32), v);
            s1 = dot(s1, v128.load_ext<i8>(q, 40), v);
            s2 = dot(s2, v128.load_ext<i8>(q, 48), v);
            s3 = dot(s3, v128.load_ext<i8>(q, 56), v);
            q += 64;
            y += 8;
          }
          if (format == B8H) {
            f0 = flush(f0, s0, v128.load(q), scale);
            f1 = flush(f1, s1, v128.load(q, 16), scale);
            f2 = flush(f2, s2, v128.load(q, 32), scale);
            f3 = flush(f3, s3, v128.load(q, 48), scale);
            s0 = i32x4.splat(0);
            s1 = s0;
            s2 = s0;
            s3 = s0;
            q += 64;
          }
        }
      }
      if (format != B8H) {
        f0 = flush(f0, s0, v128.load(q), scale);
        f1 = flush(f1, s1, v128.load(q, 16), scale);
        f2 = flush(f2, s2, v128.load(q, 32), scale);
        f3 = flush(f3, s3, v128.load(q, 48), scale);
        q += 64;
      }
      if (!again) break;
      again = 0;
      block = x + away;
    }
    p = q;
    if (format == B8M || format == B4M) {
      const m = v128.load32_splat(x, QUANT_SUM);
      m0 = mad(m0, v128.load(p), m);
      m1 = mad(m1, v128.load(p, 16), m);
      m2 = mad(m2, v128.load(p, 32), m);
      m3 = mad(m3, v128.load(p, 48), m);
      p += 64;
    }
    x += QUANT_BLOCK;
  }
  if (format == B8M || format == B4M) {
    f0 = f32x4.add(f0, m0);
    f1 = f32x4.add(f1, m1);
    f2 = f32x4.add(f2, m2);
    f3 = f32x4.add(f3, m3);
  }
  store4(out, f0, f1, f2, f3);
}

/**
 * `bytes` bytes of unpacked weights, [pair of k][16 rows][2], and the 16 scales behind them, times two quantised rows
 * whose scales stand at u and v; added to the two results at out.
 */
@inline
function pairs(w: usize, bytes: usize, x0: usize, x1: usize, u: usize, v: usize, out: usize): void {
  let s0 = i32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  // One pair of k a turn, not more: V8 moves all loads of a turn to its start, and then runs out of registers.
  for (const end = w + bytes; w < end; w += 64, x0 += 4, x1 += 4) {
    const a = v128.load32_splat(x0), b = v128.load32_splat(x1);
    const w0 = v128.load(w), w1 = v128.load(w, 16), w2 = v128.load(w, 32), w3 = v128.load(w, 48);
    s0 = dot(s0, w0, a);
    t0 = dot(t0, w0, b);
    s1 = dot(s1, w1, a);
    t1 = dot(t1, w1, b);
    s2 = dot(s2, w2, a);
    t2 = dot(t2, w2, b);
    s3 = dot(s3, w3, a);
    t3 = dot(t3, w3, b);
  }
  const a = v128.load32_splat(u), b = v128.load32_splat(v);
  let c = v128.load(w);
  v128.store(out, flush(v128.load(out), s0, c, a));
  v128.store(out, flush(v128.load(out, 64), t0, c, b), 64);
  c = v128.load(w, 16);
  v128.store(out, flush(v128.load(out, 16), s1, c, a), 16);
  v128.store(out, flush(v128.load(out, 80), t1, c, b), 80);
  c = v128.load(w, 32);
  v128.store(out, flush(v128.load(out, 32), s2, c, a), 32);
  v128.store(out, flush(v128.load(out, 96), t2, c, b), 96);
  c = v128.load(w, 48);
  v128.store(out, flush(v128.load(out, 48), s3, c, a), 48);
  v128.store(out, flush(v128.load(out, 112), t3, c, b), 112);
}
/** `blocks` blocks of 32 of two quantised rows against unpacked weights; adds to the two results at out. */
function wholeTile(w: usize, x0: usize, x1: usize, away: usize, blocks: i32, out: usize): void {
  for (; blocks > 0; blocks--) {
    let again = load<i32>(x0, QUANT_REST) | load<i32>(x1, QUANT_REST), y0 = x0, y1 = x1;
    for (;;) {
      pairs(w, 1024, y0, y1, y0 + QUANT_SCALE, y1 + QUANT_SCALE, out);
      if (!again) break;
      again = 0;
      y0 += away;
      y1 += away;
    }
    w += UNPACKED;
    x0 += QUANT_BLOCK;
    x1 += QUANT_BLOCK;
  }
}
/** The same where weights have a scale for each 16. */
function halfTile(w: usize, x0: usize, x1: usize, away: usize, blocks: i32, out: usize): void {
  for (; blocks > 0; blocks--) {
    let again = load<i32>(x0, QUANT_REST) | load<i32>(x1, QUANT_REST), y0 = x0, y1 = x1;
    for (;;) {
      pairs(w, 512, y0, y1, y0 + QUANT_SCALE, y1 + QUANT_SCALE, out);
      pairs(w + UNPACKED_HALF, 512, y0 + 32, y1 + 32, y0 + QUANT_SCALE, y1 + QUANT_SCALE, out);
      if (!again) break;
      again = 0;
      y0 += away;
      y1 += away;
    }
    w += 2 * UNPACKED_HALF;
    x0 += QUANT_BLOCK;
    x1 += QUANT_BLOCK;
  }
}
/** The minima's part of two rows: Σ over groups of minimum · sum of the activations, added to the finished results. */
function addMinima(mins: usize, step: usize, G: i32, x0: usize, x1: usize, out: usize): void {
  let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  for (let g = 0; g < G; g++) {
    const u = v128.load32_splat(x0), v = v128.load32_splat(x1);
    const w0 = v128.load(mins), w1 = v128.load(mins, 16), w2 = v128.load(mins, 32), w3 = v128.load(mins, 48);
    a0 = mad(a0, w0, u);
    b0 = mad(b0, w0, v);
    a1 = mad(a1, w1, u);
    b1 = mad(b1, w1, v);
    a2 = mad(a2, w2, u);
    b2 = mad(b2, w2, v);
    a3 = mad(a3, w3, u);
    b3 = mad(b3, w3, v);
    mins += step;
    x0 += QUANT_BLOCK;
    x1 += QUANT_BLOCK;
  }
  add4(out, a0, a1, a2, a3);
  add4(out + 64, b0, b1, b2, b3);
}
@inline
function add4(out: usize, a: v128, b: v128, c: v128, d: v128): void {
  store4(out, f32x4.add(v128.load(out), a), f32x4.add(v128.load(out, 16), b), f32x4.add(v128.load(out, 32), c), f32x4.add(v128.load(out, 48), d));
}

/** A group of 32 (of 16) unpacked: int16 pairs, then the 16 scales. */
const UNPACKED: usize = 1024 + 64;
const UNPACKED_HALF: usize = 512 + 64;

// memory.copy and memory.fill are calls out of WebAssembly: too dear for a few bytes.
@inline
function copy64(to: usize, from: usize): void {
  store4(to, v128.load(from), v128.load(from, 16), v128.load(from, 32), v128.load(from, 48));
}

/** Unpacks one group of 32 of k to `to`; returns the address of the next group. */
@inline
function unpackGroup(p: usize, to: usize, format: i32): usize {
  if (format == B8H) {
    unpack8(p, 8, to);
    copy64(to + 512, p + 256);
    unpack8(p + 320, 8, to + UNPACKED_HALF);
    copy64(to + UNPACKED_HALF + 512, p + 576);
    return p + 640;
  }
  if (format == B4Z || format == B4M) unpack4(p, to, format == B4Z ? 8 : 0);
  else unpack8(p, 16, to);
  copy64(to + 1024, p + dataBytes(format));
  return p + groupBytes(format);
}

/** Many quantised rows times an integer panel: groups are unpacked once for all rows of the chunk, 512 of k at a time. */
export function integerRows(p: usize, x: usize, rows: i32, K: i32, scratch: usize, format: i32): void {
  const G = K >> 5, stride = quantBytes(K), away = quantRest(K), out = partialOf(scratch), first = p;
  memory.fill(out, 0, <usize>((rows + 1) & ~1) << 6);
  for (let g0 = 0; g0 < G; g0 += 16) {
    const n = min(16, G - g0);
    const size: usize = format == B8H ? 2 * UNPACKED_HALF : UNPACKED;
    for (let g = 0; g < n; g++) p = unpackGroup(p, scratch + <usize>g * size, format);
    for (let r = 0; r < rows; r += 2) {
      const y0 = x + <usize>r * stride + <usize>g0 * QUANT_BLOCK, y1 = r + 1 < rows ? y0 + stride : y0;
      if (format == B8H) halfTile(scratch, y0, y1, away, n, out + (<usize>r << 6));
      else wholeTile(scratch, y0, y1, away, n, out + (<usize>r << 6));
    }
  }
  if (format != B8M && format != B4M) return;
  for (let r = 0; r < rows; r += 2) {
    const y0 = x + <usize>r * stride + QUANT_SUM, y1 = r + 1 < rows ? y0 + stride : y0;
    addMinima(first + dataBytes(format) + 64, groupBytes(format), G, y0, y1, out + (<usize>r << 6));
  }
}
