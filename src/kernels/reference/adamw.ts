import type { AdamWScalars, Rate } from "../optimize.js";

const { fround } = Math;

/**
 * β·old + (1 − β)·next, in three float32 steps from the nearer end:
 * old + rest·(next − old) for β ≥ 0.5, else next + beta·(old − next).
 * The choice is PyTorch's `lerp`: no β loses the smaller of the two to rounding.
 */
export function average(old: number, next: number, { beta, rest }: Rate): number {
  return beta >= 0.5
    ? fround(old + fround(rest * fround(next - old)))
    : fround(next + fround(beta * fround(old - next)));
}

/**
 * AdamW on flat arrays, in place, every operation rounded to float32 in the order of the brackets:
 *
 *     p ← p · decay
 *     m ← average of m and g                 (see `average`)
 *     v ← (β2 · v) + (((1 − β2) · g) · g)
 *     p ← p − (size · m) / ((√v / root) + eps)
 */
export function adamw(
  param: Float32Array,
  grad: Float32Array,
  m: Float32Array,
  v: Float32Array,
  s: AdamWScalars,
  factor = 1,
): void {
  const by = fround(factor);
  for (let i = 0; i < param.length; i++) {
    const g = fround(grad[i] * by);
    m[i] = average(m[i], g, s.m);
    v[i] = fround(fround(s.v.beta * v[i]) + fround(fround(s.v.rest * g) * g));
    const divisor = fround(fround(fround(Math.sqrt(v[i])) / s.root) + s.eps);
    param[i] = fround(fround(param[i] * s.decay) - fround(fround(s.size * m[i]) / divisor));
  }
}
