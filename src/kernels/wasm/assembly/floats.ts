import { F32 } from "./abi";
import { mad, partialOf, store4 } from "./tile";
import { halfMask, halfScale, highHalf, lowHalf, unpackHalf } from "./unpack";

// Panels of floats: sums run over k one after the other, for one row and for many.

export function floatRow(p: usize, x: usize, K: i32, out: usize): void {
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
  const end = x + (<usize>K << 2);
  for (; x < end; x += 4) {
    const u = v128.load32_splat(x);
    s0 = mad(s0, u, v128.load(p));
    s1 = mad(s1, u, v128.load(p, 16));
    s2 = mad(s2, u, v128.load(p, 32));
    s3 = mad(s3, u, v128.load(p, 48));
    p += 64;
  }
  store4(out, s0, s1, s2, s3);
}

@inline
export function halfRow(p: usize, x: usize, K: i32, out: usize, format: i32): void {
  const mask = halfMask(format), scale = halfScale();
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
  const end = x + (<usize>K << 2);
  for (; x + 4 < end; x += 8) {
    const u = v128.load32_splat(x), v = v128.load32_splat(x, 4);
    const a = v128.load(p), b = v128.load(p, 16), c = v128.load(p, 32), d = v128.load(p, 48);
    s0 = mad(s0, u, lowHalf(a, format, mask, scale));
    s1 = mad(s1, u, highHalf(a, format, mask, scale));
    s2 = mad(s2, u, lowHalf(b, format, mask, scale));
    s3 = mad(s3, u, highHalf(b, format, mask, scale));
    s0 = mad(s0, v, lowHalf(c, format, mask, scale));
    s1 = mad(s1, v, highHalf(c, format, mask, scale));
    s2 = mad(s2, v, lowHalf(d, format, mask, scale));
    s3 = mad(s3, v, highHalf(d, format, mask, scale));
    p += 64;
  }
  if (x < end) {
    const u = v128.load32_splat(x), a = v128.load(p), b = v128.load(p, 16);
    s0 = mad(s0, u, lowHalf(a, format, mask, scale));
    s1 = mad(s1, u, highHalf(a, format, mask, scale));
    s2 = mad(s2, u, lowHalf(b, format, mask, scale));
    s3 = mad(s3, u, highHalf(b, format, mask, scale));
  }
  store4(out, s0, s1, s2, s3);
}

/** Two rows (or one, when x1 = x0 and the second result is dropped) times 16 columns, added to what out holds. */
export function floatTile(p: usize, x0: usize, x1: usize, count: i32, out: usize): void {
  let a0 = v128.load(out), a1 = v128.load(out, 16), a2 = v128.load(out, 32), a3 = v128.load(out, 48);
  let b0 = v128.load(out, 64), b1 = v128.load(out, 80), b2 = v128.load(out, 96), b3 = v128.load(out, 112);
  const end = x0 + (<usize>count << 2);
  for (; x0 < end; x0 += 4, x1 += 4) {
    const u = v128.load32_splat(x0), v = v128.load32_splat(x1);
    const w0 = v128.load(p), w1 = v128.load(p, 16), w2 = v128.load(p, 32), w3 = v128.load(p, 48);
    a0 = mad(a0, u, w0);
    b0 = mad(b0, v, w0);
    a1 = mad(a1, u, w1);
    b1 = mad(b1, v, w1);
    a2 = mad(a2, u, w2);
    b2 = mad(b2, v, w2);
    a3 = mad(a3, u, w3);
    b3 = mad(b3, v, w3);
    p += 64;
  }
  store4(out, a0, a1, a2, a3);
  store4(out + 64, b0, b1, b2, b3);
}

/** Many f32 rows times a float panel, 256 of k at a time so that the weights stay in the first cache. */
export function floatRows(p: usize, x: usize, stride: usize, rows: i32, K: i32, scratch: usize, format: i32): void {
  const out = partialOf(scratch);
  memory.fill(out, 0, <usize>((rows + 1) & ~1) << 6);
  for (let k0 = 0; k0 < K; k0 += 256) {
    const n = min(256, K - k0);
    let w = p + (<usize>k0 << 6);
    if (format != F32) {
      w = scratch;
      unpackHalf(p + (<usize>k0 << 5), n, w, format);
    }
    for (let r = 0; r < rows; r += 2) {
      const y0 = x + <usize>r * stride + (<usize>k0 << 2), y1 = r + 1 < rows ? y0 + stride : y0;
      floatTile(w, y0, y1, n, out + (<usize>r << 6));
    }
  }
}
