import { aborted, pointer, real, scratchOf, word } from "./abi";
import { exp4, tanh4 } from "./math";

// Attention's way back. Four rows of a head go over the keys together: a key is loaded once for the four, and their sums
// do not wait for each other. Their scores, probabilities and gradients stand side by side, a lane each.

/** Four dot products: lane r is a_r · b. `step` is bytes between the a_r. */
@inline
function dots(a: usize, step1: usize, step2: usize, step3: usize, b: usize, d: i32): v128 {
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, i = 0;
  for (; i + 4 <= d; i += 4) {
    const at = <usize>i << 2, x = v128.load(b + at);
    s0 = f32x4.add(s0, f32x4.mul(x, v128.load(a + at)));
    s1 = f32x4.add(s1, f32x4.mul(x, v128.load(a + step1 + at)));
    s2 = f32x4.add(s2, f32x4.mul(x, v128.load(a + step2 + at)));
    s3 = f32x4.add(s3, f32x4.mul(x, v128.load(a + step3 + at)));
  }
  const a01 = f32x4.add(v128.shuffle<f32>(s0, s1, 0, 4, 1, 5), v128.shuffle<f32>(s0, s1, 2, 6, 3, 7));
  const a23 = f32x4.add(v128.shuffle<f32>(s2, s3, 0, 4, 1, 5), v128.shuffle<f32>(s2, s3, 2, 6, 3, 7));
  let sum = f32x4.add(v128.shuffle<f32>(a01, a23, 0, 1, 4, 5), v128.shuffle<f32>(a01, a23, 2, 3, 6, 7));
  for (; i < d; i++) {
    const at = <usize>i << 2;
    let x = f32x4.splat(load<f32>(a + at));
    x = f32x4.replace_lane(x, 1, load<f32>(a + step1 + at));
    x = f32x4.replace_lane(x, 2, load<f32>(a + step2 + at));
    x = f32x4.replace_lane(x, 3, load<f32>(a + step3 + at));
    sum = f32x4.add(sum, f32x4.mul(x, f32x4.splat(load<f32>(b + at))));
  }
  return sum;
}

/** to[c] += Σ_r by_r · from_r[c], four rows in order. */
@inline
function addRows(to: usize, from: usize, step1: usize, step2: usize, step3: usize, by: usize, d: i32): void {
  const b0 = v128.load32_splat(by), b1 = v128.load32_splat(by, 4), b2 = v128.load32_splat(by, 8), b3 = v128.load32_splat(by, 12);
  let i = 0;
  for (; i + 4 <= d; i += 4) {
    const at = <usize>i << 2;
    let x = f32x4.add(v128.load(to + at), f32x4.mul(b0, v128.load(from + at)));
    x = f32x4.add(x, f32x4.mul(b1, v128.load(from + step1 + at)));
    x = f32x4.add(x, f32x4.mul(b2, v128.load(from + step2 + at)));
    v128.store(to + at, f32x4.add(x, f32x4.mul(b3, v128.load(from + step3 + at))));
  }
  for (; i < d; i++) {
    const at = <usize>i << 2;
    let x = load<f32>(to + at) + load<f32>(by) * load<f32>(from + at);
    x += load<f32>(by, 4) * load<f32>(from + step1 + at);
    x += load<f32>(by, 8) * load<f32>(from + step2 + at);
    store<f32>(to + at, x + load<f32>(by, 12) * load<f32>(from + step3 + at));
  }
}

/** row r of `to` += Σ_j by[j][r] · keys_j, for the `rows` of four that there are. */
@inline
function addKeys(to: usize, step: usize, rows: i32, keys: usize, stride: usize, n: i32, by: usize, d: i32): void {
  let i = 0;
  for (; i + 4 <= d; i += 4) {
    const at = <usize>i << 2;
    let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
    for (let j = 0; j < n; j++) {
      const x = v128.load(keys + <usize>j * stride + at), b = by + (<usize>j << 4);
      s0 = f32x4.add(s0, f32x4.mul(v128.load32_splat(b), x));
      s1 = f32x4.add(s1, f32x4.mul(v128.load32_splat(b, 4), x));
      s2 = f32x4.add(s2, f32x4.mul(v128.load32_splat(b, 8), x));
      s3 = f32x4.add(s3, f32x4.mul(v128.load32_splat(b, 12), x));
    }
    const p = to + at;
    v128.store(p, f32x4.add(v128.load(p), s0));
    if (rows > 1) v128.store(p + step, f32x4.add(v128.load(p + step), s1));
    if (rows > 2) v128.store(p + 2 * step, f32x4.add(v128.load(p + 2 * step), s2));
    if (rows > 3) v128.store(p + 3 * step, f32x4.add(v128.load(p + 3 * step), s3));
  }
  for (; i < d; i++)
    for (let r = 0; r < rows; r++) {
      const p = to + <usize>r * step + (<usize>i << 2);
      let sum: f32 = 0;
      for (let j = 0; j < n; j++) sum += load<f32>(by + (<usize>j << 4) + (<usize>r << 2)) * load<f32>(keys + <usize>j * stride + (<usize>i << 2));
      store<f32>(p, load<f32>(p) + sum);
    }
}

/**
 * Op: attention's way back, into dQkv; dOut is zero afterwards. A task is one key head of one sequence, so that a key's gradient
 * is one thread's. Words: 2 qkv, 3 its stride, 4 dOut, 5 its stride, 6 dQkv, 7 its stride, 8 sequences [count][2] (first row, rows),
 * 9 count, 10 heads, 11 key heads, 12 d, 13 scale, 14 cap, 15 window.
 */
export function attentionGradient(op: usize, tid: i32, nt: i32): void {
  const heads = word(op, 10), groups = word(op, 11), d = word(op, 12), tasks = word(op, 9) * groups, stride = pointer(op, 3), dStride = pointer(op, 7);
  const keys = <usize>(heads * d) << 2, values = keys + (<usize>(groups * d) << 2);
  for (let t = tid; t < tasks; t += nt) {
    const g = t % groups, sequence = pointer(op, 8) + (<usize>(t / groups) << 3), first = <usize>load<i32>(sequence), rows = load<i32>(sequence, 4);
    const k = pointer(op, 2) + first * stride + keys + (<usize>(g * d) << 2), v = k + (values - keys);
    const dk = pointer(op, 6) + first * dStride + keys + (<usize>(g * d) << 2), dv = dk + (values - keys);
    for (let h = 0; h < heads; h++) {
      if ((h * groups) / heads != g) continue;
      for (let i = 0; i < rows; i += 4) {
        if (aborted()) return;
        const row = first + <usize>i, at = <usize>(h * d) << 2;
        attendRows(
          op, pointer(op, 2) + row * stride + at, pointer(op, 4) + row * pointer(op, 5) + at, pointer(op, 6) + row * dStride + at,
          k, v, dk, dv, i, min(4, rows - i), d, scratchOf(tid),
        );
      }
    }
  }
}

/** One query head of rows i to i + rows - 1, at most four. Lanes without a row follow the last one with probability 0. */
function attendRows(op: usize, q: usize, dOut: usize, dq: usize, k: usize, v: usize, dk: usize, dv: usize, i: i32, rows: i32, d: i32, scratch: usize): void {
  const stride = pointer(op, 3), outStride = pointer(op, 5), dStride = pointer(op, 7), window = word(op, 15), cap = real(op, 14);
  const r1 = <usize>min(1, rows - 1), r2 = <usize>min(2, rows - 1), r3 = <usize>min(3, rows - 1);
  const start = window > 0 ? max(0, i - window + 1) : 0, n = i + rows - start;
  const s = scratch + 64, p = s + (<usize>n << 4), dp = p + (<usize>n << 4), scale = f32x4.splat(real(op, 13));
  // The keys, counted from `start`, that each lane sees.
  const last = i32x4.add(i32x4.splat(i - start), i32x4.min_s(i32x4(0, 1, 2, 3), i32x4.splat(rows - 1)));
  const from = window > 0 ? i32x4.sub(last, i32x4.splat(window - 1)) : i32x4.splat(0);

  let top = f32x4.splat(-Infinity);
  for (let j = 0; j < n; j++) {
    let x = f32x4.mul(scale, dots(q, r1 * stride, r2 * stride, r3 * stride, k + <usize>(start + j) * stride, d));
    if (cap > 0) x = f32x4.mul(f32x4.splat(cap), tanh4(f32x4.div(x, f32x4.splat(cap))));
    const at = i32x4.splat(j), seen = v128.and(i32x4.le_s(at, last), i32x4.ge_s(at, from));
    x = v128.bitselect(x, f32x4.splat(-Infinity), seen);
    v128.store(s + (<usize>j << 4), x);
    top = f32x4.pmax(top, x);
  }
  let z = f32x4.splat(0);
  for (let j = 0; j < n; j++) {
    const e = exp4(f32x4.sub(v128.load(s + (<usize>j << 4)), top));
    v128.store(p + (<usize>j << 4), e);
    z = f32x4.add(z, e);
  }
  const inverse = v128.and(f32x4.div(f32x4.splat(1), z), i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(rows)));

  // dOut · out = Σ p · dp, without the output.
  let low = f64x2.splat(0), high = low;
  for (let j = 0; j < n; j++) {
    const at = <usize>j << 4, pj = f32x4.mul(v128.load(p + at), inverse);
    const x = dots(dOut, r1 * outStride, r2 * outStride, r3 * outStride, v + <usize>(start + j) * stride, d);
    v128.store(p + at, pj);
    v128.store(dp + at, x);
    low = f64x2.add(low, f64x2.mul(f64x2.promote_low_f32x4(pj), f64x2.promote_low_f32x4(x)));
    high = f64x2.add(high, f64x2.mul(f64x2.promote_low_f32x4(v128.shuffle<f32>(pj, pj, 2, 3, 2, 3)), f64x2.promote_low_f32x4(v128.shuffle<f32>(x, x, 2, 3, 2, 3))));
  }
  const mean = v128.shuffle<f32>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 1, 4, 5);
  for (let j = 0; j < n; j++) {
    const at = <usize>j << 4, pj = v128.load(p + at);
    let ds = f32x4.mul(f32x4.mul(scale, pj), f32x4.sub(v128.load(dp + at), mean));
    if (cap > 0) {
      // A score of -Infinity, which a lane does not see, has no slope; its probability is 0.
      const bent = f32x4.div(f32x4.pmax(v128.load(s + at), f32x4.splat(-cap)), f32x4.splat(cap));
      ds = f32x4.mul(ds, f32x4.sub(f32x4.splat(1), f32x4.mul(bent, bent)));
    }
    v128.store(dp + at, ds);
    const to = <usize>(start + j) * dStride;
    addRows(dk + to, q, r1 * stride, r2 * stride, r3 * stride, dp + at, d);
    addRows(dv + to, dOut, r1 * outStride, r2 * outStride, r3 * outStride, p + at, d);
  }
  addKeys(dq, dStride, rows, k + <usize>start * stride, stride, n, dp, d);
  for (let r = 0; r < rows; r++) memory.fill(dOut + <usize>r * outStride, 0, <usize>d << 2);
}
