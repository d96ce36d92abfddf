import type { AdamWScalars } from "../optimize.js";
import { average } from "./average.js";

const { fround } = Math;

/**
 * AdamW on flat arrays, in place, every operation rounded to float32 in the order of the brackets:
 *
 *     g ← g · factor
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
