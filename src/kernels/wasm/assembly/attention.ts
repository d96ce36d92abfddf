import { aborted } from "./abi";
import { exp4, max4, sum4, tanh4 } from "./math";
import { mad, store4 } from "./tile";

// The cache: blocks of 32 positions. In a block, each layer has for each key head
//   keys   [2 panels][d][16 positions]     (scores of 16 positions are one panel product)
//   values [ceil(d/16) panels][32 positions][16]
// so that both products of attention stream memory in order. Sums run over positions in order from the first visible
// block on, whatever the number of rows: many rows and one row give the same bits.

export const BLOCK: i32 = 32;

@inline
export function keyBytes(d: i32): usize {
  return <usize>d << 7;
}
@inline
export function headBytes(d: i32): usize {
  return (<usize>d << 7) + (<usize>((d + 15) >> 4) << 11);
}

/** Writes one row's key and value of one head into a block. place: position % 32. */
export function storeHead(block: usize, place: i32, d: i32, k: usize, v: usize): void {
  const kp = block + (<usize>(place >> 4) * (<usize>d << 6)) + (<usize>(place & 15) << 2);
  for (let i = 0; i < d; i++) store<f32>(kp + (<usize>i << 6), load<f32>(k + (<usize>i << 2)));
  const vp = block + keyBytes(d) + (<usize>place << 6);
  for (let i = 0; i < d; i++)
    store<f32>(vp + (<usize>(i >> 4) << 11) + (<usize>(i & 15) << 2), load<f32>(v + (<usize>i << 2)));
}

@inline
function finish(s: v128, scale: v128, cap: f32): v128 {
  s = f32x4.mul(s, scale);
  if (cap > 0) s = f32x4.mul(tanh4(f32x4.div(s, f32x4.splat(cap))), f32x4.splat(cap));
  return s;
}
/** -Infinity for those of 16 keys, from j on, that are not visible: before first or after last. */
function mask(s: usize, j: i32, first: i32, last: i32): void {
  for (let i = 0; i < 16; i++) if (j + i < first || j + i > last) store<f32>(s + (<usize>i << 2), -Infinity);
}

/** softmax over n scores in place, without the division: returns Σ. n is a multiple of 16. */
function exponentials(s: usize, n: i32): f32 {
  const end = s + (<usize>n << 2);
  let m = f32x4.splat(-Infinity);
  for (let p = s; p < end; p += 16) m = f32x4.pmax(m, v128.load(p));
  const top = f32x4.splat(max4(m));
  let z = f32x4.splat(0);
  for (let p = s; p < end; p += 16) {
    const e = exp4(f32x4.sub(v128.load(p), top));
    v128.store(p, e);
    z = f32x4.add(z, e);
  }
  return sum4(z);
}

/**
 * Attention of two query rows of one head (b may equal a). blocks: table of block addresses of the sequence;
 * offset: this layer's and head's place in a block. Positions pa <= pb. scores: room for 2·(positions + 32) floats.
 */
export function attendPair(
  qa: usize, qb: usize, outA: usize, outB: usize, pa: i32, pb: i32, window: i32, blocks: usize, offset: usize, d: i32,
  scale: f32, cap: f32, scores: usize,
): void {
  if (qa == qb) attend(qa, qb, outA, outB, pa, pb, window, blocks, offset, d, scale, cap, scores, false);
  else attend(qa, qb, outA, outB, pa, pb, window, blocks, offset, d, scale, cap, scores, true);
}
@inline
function attend(
  qa: usize, qb: usize, outA: usize, outB: usize, pa: i32, pb: i32, window: i32, blocks: usize, offset: usize, d: i32,
  scale: f32, cap: f32, scores: usize, two: bool,
): void {
  const firstA = window > 0 ? max(0, pa - window + 1) : 0, firstB = window > 0 ? max(0, pb - window + 1) : 0;
  const b0 = firstA >> 5, b1 = pb >> 5, n = (b1 - b0 + 1) << 5;
  const sa = scores, sb = scores + (<usize>n << 2), sv = f32x4.splat(scale);
  for (let b = b0; b <= b1; b++) {
    if (aborted()) return;
    let k = <usize>load<u32>(blocks + (<usize>b << 2)) + offset;
    for (let half = 0; half < 2; half++) {
      let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0, c0 = a0, c1 = a0, c2 = a0, c3 = a0;
      for (let i: usize = 0; i < <usize>d << 2; i += 4) {
        const u = v128.load32_splat(qa + i);
        const w0 = v128.load(k), w1 = v128.load(k, 16), w2 = v128.load(k, 32), w3 = v128.load(k, 48);
        a0 = mad(a0, u, w0);
        a1 = mad(a1, u, w1);
        a2 = mad(a2, u, w2);
        a3 = mad(a3, u, w3);
        if (two) {
          const v = v128.load32_splat(qb + i);
          c0 = mad(c0, v, w0);
          c1 = mad(c1, v, w1);
          c2 = mad(c2, v, w2);
          c3 = mad(c3, v, w3);
        }
        k += 64;
      }
      const at = <usize>(((b - b0) << 5) + (half << 4)) << 2;
      v128.store(sa + at, finish(a0, sv, cap));
      v128.store(sa + at, finish(a1, sv, cap), 16);
      v128.store(sa + at, finish(a2, sv, cap), 32);
      v128.store(sa + at, finish(a3, sv, cap), 48);
      if (two) {
        v128.store(sb + at, finish(c0, sv, cap));
        v128.store(sb + at, finish(c1, sv, cap), 16);
        v128.store(sb + at, finish(c2, sv, cap), 32);
        v128.store(sb + at, finish(c3, sv, cap), 48);
      }
      const j = (b << 5) + (half << 4);
      if (j < firstB || j + 15 > pa) {
        mask(sa + at, j, firstA, pa);
        if (two) mask(sb + at, j, firstB, pb);
      }
    }
  }
  // exponentials() sums in lanes from the first block: a leading block that only row a sees is 0 to row b.
  const za = f32x4.splat(1 / exponentials(sa, n));
  const zb = two ? f32x4.splat(1 / exponentials(sb, n)) : za;
  for (let c = 0; c < d; c += 16) {
    let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0, e0 = a0, e1 = a0, e2 = a0, e3 = a0;
    for (let b = b0; b <= b1; b++) {
      let v = <usize>load<u32>(blocks + (<usize>b << 2)) + offset + keyBytes(d) + (<usize>(c >> 4) << 11);
      const count = min(31, pb - (b << 5)) + 1;
      let at = <usize>((b - b0) << 5) << 2;
      for (let j = 0; j < count; j++, at += 4, v += 64) {
        const u = v128.load32_splat(sa + at);
        const w0 = v128.load(v), w1 = v128.load(v, 16), w2 = v128.load(v, 32), w3 = v128.load(v, 48);
        a0 = mad(a0, u, w0);
        a1 = mad(a1, u, w1);
        a2 = mad(a2, u, w2);
        a3 = mad(a3, u, w3);
        if (two) {
          const w = v128.load32_splat(sb + at);
          e0 = mad(e0, w, w0);
          e1 = mad(e1, w, w1);
          e2 = mad(e2, w, w2);
          e3 = mad(e3, w, w3);
        }
      }
    }
    const at = <usize>c << 2, bytes = <usize>min(16, d - c) << 2;
    put(outA + at, bytes, f32x4.mul(a0, za), f32x4.mul(a1, za), f32x4.mul(a2, za), f32x4.mul(a3, za), scores);
    if (two) put(outB + at, bytes, f32x4.mul(e0, zb), f32x4.mul(e1, zb), f32x4.mul(e2, zb), f32x4.mul(e3, zb), scores);
  }
}
/** Stores up to 16 floats; scores' last 64 bytes before the first score are not used, so a short tail goes there first. */
@inline
function put(to: usize, bytes: usize, a: v128, b: v128, c: v128, d: v128, scores: usize): void {
  if (bytes == 64) {
    store4(to, a, b, c, d);
  } else {
    const t = scores - 64;
    store4(t, a, b, c, d);
    memory.copy(to, t, bytes);
  }
}
