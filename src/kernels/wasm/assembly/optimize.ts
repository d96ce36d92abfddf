import { CTL, CTL_FAULT, CTL_FAULT_AT, FAULT_NOT_FINITE, MAT_COLS, MAT_DATA, MAT_PANEL, MAT_ROWS, pointer, real, share, word } from "./abi";

// Weights, gradients and an optimizer's state stand in the same panels: a step walks them as flat numbers. A panel's missing
// rows are zeros in all of them, and stay zeros.

@inline
function words4(op: usize, i: usize): v128 {
  return v128.load32_splat(op + (i << 2));
}
@inline
function panelsOf(mat: usize): i32 {
  return (load<i32>(mat + MAT_ROWS) + 15) >> 4;
}

/**
 * Op: a step of AdamW; see reference/adamw.ts, whose bits these are. Words: 2 value, 3 gradient, 4 m, 5 v (matrices), 6 decay,
 * 7 β1, 8 1 - β1, 9 β2, 10 1 - β2, 11 root, 12 eps, 13 size, 14 factor, 15 number reported when a value is not finite.
 */
export function adamw(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), panels = panelsOf(mat), bytes = <usize>load<u32>(mat + MAT_PANEL);
  const start = <usize>share(panels, tid, nt) * bytes, end = <usize>share(panels, tid + 1, nt) * bytes;
  const p = <usize>load<u32>(mat + MAT_DATA), g = <usize>load<u32>(pointer(op, 3) + MAT_DATA), m = <usize>load<u32>(pointer(op, 4) + MAT_DATA), v = <usize>load<u32>(pointer(op, 5) + MAT_DATA);
  const near = real(op, 7) >= 0.5;
  let bad = i32x4.splat(0);
  for (let i = start; i < end; i += 16) {
    const x = f32x4.mul(v128.load(g + i), words4(op, 14)), old = v128.load(m + i);
    const mean = near
      ? f32x4.add(old, f32x4.mul(words4(op, 8), f32x4.sub(x, old)))
      : f32x4.add(x, f32x4.mul(words4(op, 7), f32x4.sub(old, x)));
    const square = f32x4.add(f32x4.mul(words4(op, 9), v128.load(v + i)), f32x4.mul(f32x4.mul(words4(op, 10), x), x));
    const divisor = f32x4.add(f32x4.div(f32x4.sqrt(square), words4(op, 11)), words4(op, 12));
    const next = f32x4.sub(f32x4.mul(v128.load(p + i), words4(op, 6)), f32x4.div(f32x4.mul(words4(op, 13), mean), divisor));
    v128.store(m + i, mean);
    v128.store(v + i, square);
    v128.store(p + i, next);
    // x - x is 0 but for infinities and NaN; the sum is one of those when any of the three is.
    const all = f32x4.add(f32x4.abs(next), f32x4.add(f32x4.abs(mean), square));
    bad = v128.or(bad, f32x4.ne(f32x4.sub(all, all), f32x4.splat(0)));
  }
  if (v128.any_true(bad) && atomic.cmpxchg<i32>(CTL + CTL_FAULT, 0, FAULT_NOT_FINITE) == 0) atomic.store<i32>(CTL + CTL_FAULT_AT, word(op, 15));
}

/** Op: Σ x² of each panel, in float64. Words: 2 matrix, 3 out [panels] f64. */
export function squares(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), panels = panelsOf(mat), bytes = <usize>load<i32>(mat + MAT_COLS) << 6;
  for (let panel = share(panels, tid, nt); panel < share(panels, tid + 1, nt); panel++) {
    const from = <usize>load<u32>(mat + MAT_DATA) + <usize>panel * <usize>load<u32>(mat + MAT_PANEL);
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
