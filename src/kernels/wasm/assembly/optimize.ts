import { CTL, CTL_FAULT, CTL_FAULT_AT, FAULT_NOT_FINITE, MAT_COLS, MAT_DATA, MAT_PANEL, MAT_ROWS, pointer, real, share, word } from "./abi";

// Weights, gradients and an optimizer's state stand in the same panels: a step walks them as flat numbers. A panel's missing
// rows are zeros in all of them, and stay zeros. The formulas, whose bits these are, stand in reference/{adamw,sgd,lion}.ts.

@inline
export function words4(op: usize, i: usize): v128 {
  return v128.load32_splat(op + (i << 2));
}
@inline
export function panelsOf(mat: usize): i32 {
  return (load<i32>(mat + MAT_ROWS) + 15) >> 4;
}
@inline
export function dataOf(mat: usize): usize {
  return <usize>load<u32>(mat + MAT_DATA);
}
/** First byte of a thread's share of a matrix. */
@inline
function shareOf(mat: usize, tid: i32, nt: i32): usize {
  return <usize>share(panelsOf(mat), tid, nt) * <usize>load<u32>(mat + MAT_PANEL);
}
/** `average` of reference/average.ts; near: whether β is 0.5 or more. */
@inline
export function average4(old: v128, next: v128, near: bool, beta: v128, rest: v128): v128 {
  return near ? f32x4.add(old, f32x4.mul(rest, f32x4.sub(next, old))) : f32x4.add(next, f32x4.mul(beta, f32x4.sub(old, next)));
}
/** Lanes that are infinite or NaN: x - x is 0 for all others. */
@inline
export function notFinite(x: v128): v128 {
  return f32x4.ne(f32x4.sub(x, x), f32x4.splat(0));
}
/** Says that update `number` left float32's range, if any lane did. */
@inline
export function report(bad: v128, number: i32): void {
  if (v128.any_true(bad) && atomic.cmpxchg<i32>(CTL + CTL_FAULT, 0, FAULT_NOT_FINITE) == 0) atomic.store<i32>(CTL + CTL_FAULT_AT, number);
}

/**
 * Op: a step of AdamW. Words: 2 value, 3 gradient, 4 m, 5 v (matrices), 6 decay, 7 β1, 8 1 - β1, 9 β2, 10 1 - β2, 11 root,
 * 12 eps, 13 size, 14 factor, 15 number reported when a value is not finite.
 */
export function adamw(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), start = shareOf(mat, tid, nt), end = shareOf(mat, tid + 1, nt);
  const p = dataOf(mat), g = dataOf(pointer(op, 3)), m = dataOf(pointer(op, 4)), v = dataOf(pointer(op, 5));
  const near = real(op, 7) >= 0.5;
  let bad = i32x4.splat(0);
  for (let i = start; i < end; i += 16) {
    const x = f32x4.mul(v128.load(g + i), words4(op, 14)), mean = average4(v128.load(m + i), x, near, words4(op, 7), words4(op, 8));
    const square = f32x4.add(f32x4.mul(words4(op, 9), v128.load(v + i)), f32x4.mul(f32x4.mul(words4(op, 10), x), x));
    const divisor = f32x4.add(f32x4.div(f32x4.sqrt(square), words4(op, 11)), words4(op, 12));
    const next = f32x4.sub(f32x4.mul(v128.load(p + i), words4(op, 6)), f32x4.div(f32x4.mul(words4(op, 13), mean), divisor));
    v128.store(m + i, mean);
    v128.store(v + i, square);
    v128.store(p + i, next);
    bad = v128.or(bad, v128.or(notFinite(next), v128.or(notFinite(mean), notFinite(square))));
  }
  report(bad, word(op, 15));
}

/**
 * Op: a step of SGD. Words: 2 value, 3 gradient, 4 momentum (matrices; 4 may be 0), 6 rate, 7 decay, 8 momentum, 9 share,
 * 10 nesterov?, 11 factor, 12 number reported.
 */
export function sgd(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), start = shareOf(mat, tid, nt), end = shareOf(mat, tid + 1, nt), kept = pointer(op, 4), nesterov = word(op, 10) != 0;
  const p = dataOf(mat), g = dataOf(pointer(op, 3)), b = kept ? dataOf(kept) : 0;
  let bad = i32x4.splat(0);
  for (let i = start; i < end; i += 16) {
    const old = v128.load(p + i);
    let d = f32x4.add(f32x4.mul(v128.load(g + i), words4(op, 11)), f32x4.mul(words4(op, 7), old));
    if (kept) {
      const sum = f32x4.add(f32x4.mul(words4(op, 8), v128.load(b + i)), f32x4.mul(words4(op, 9), d));
      v128.store(b + i, sum);
      bad = v128.or(bad, notFinite(sum));
      d = nesterov ? f32x4.add(d, f32x4.mul(words4(op, 8), sum)) : sum;
    }
    const next = f32x4.sub(old, f32x4.mul(words4(op, 6), d));
    v128.store(p + i, next);
    bad = v128.or(bad, notFinite(next));
  }
  report(bad, word(op, 12));
}

/**
 * Op: a step of Lion. Words: 2 value, 3 gradient, 4 m (matrices), 6 rate, 7 decay, 8 β1, 9 1 - β1, 10 β2, 11 1 - β2, 12 factor,
 * 13 number reported.
 */
export function lion(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), start = shareOf(mat, tid, nt), end = shareOf(mat, tid + 1, nt);
  const p = dataOf(mat), g = dataOf(pointer(op, 3)), m = dataOf(pointer(op, 4));
  const near1 = real(op, 8) >= 0.5, near2 = real(op, 10) >= 0.5, zero = f32x4.splat(0), sign = i32x4.splat(i32.MIN_VALUE);
  let bad = i32x4.splat(0);
  for (let i = start; i < end; i += 16) {
    const x = f32x4.mul(v128.load(g + i), words4(op, 12)), old = v128.load(m + i);
    const c = average4(old, x, near1, words4(op, 8), words4(op, 9));
    // rate · sign(c), where sign(±0) is ±0. (Where c is NaN, so is m.)
    const step = v128.or(v128.andnot(words4(op, 6), f32x4.eq(c, zero)), v128.and(c, sign));
    const next = f32x4.sub(f32x4.mul(v128.load(p + i), words4(op, 7)), step), mean = average4(old, x, near2, words4(op, 10), words4(op, 11));
    v128.store(p + i, next);
    v128.store(m + i, mean);
    bad = v128.or(bad, v128.or(notFinite(next), notFinite(mean)));
  }
  report(bad, word(op, 13));
}

/** Op: Σ x² of each panel, in float64. Words: 2 matrix, 3 out [panels] f64. */
export function squares(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), panels = panelsOf(mat), bytes = <usize>load<i32>(mat + MAT_COLS) << 6;
  for (let panel = share(panels, tid, nt); panel < share(panels, tid + 1, nt); panel++) {
    const from = dataOf(mat) + <usize>panel * <usize>load<u32>(mat + MAT_PANEL);
    let a = f64x2.splat(0), b = a;
    for (let i: usize = 0; i < bytes; i += 16) {
      const x = v128.load(from + i), low = f64x2.promote_low_f32x4(x), high = f64x2.promote_low_f32x4(v128.shuffle<i32>(x, x, 2, 3, 2, 3));
      a = f64x2.add(a, f64x2.mul(low, low));
      b = f64x2.add(b, f64x2.mul(high, high));
    }
    a = f64x2.add(a, b);
    store<f64>(pointer(op, 3) + (<usize>panel << 3), f64x2.extract_lane(a, 0) + f64x2.extract_lane(a, 1));
  }
}
