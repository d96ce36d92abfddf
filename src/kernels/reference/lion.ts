import type { LionScalars } from "../optimize.js";
import { average } from "./average.js";

const { fround } = Math;

/**
 * Lion on flat arrays, in place, every operation rounded to float32 in the order of the brackets:
 *
 *     g ← g · factor
 *     c ← average of m and g by `direction`      (see `average`)
 *     p ← (p · decay) − (rate · sign(c))         with sign(0) = 0
 *     m ← average of m and g by `memory`
 */
export function lion(
  param: Float32Array,
  grad: Float32Array,
  m: Float32Array,
  s: LionScalars,
  factor = 1,
): void {
  const by = fround(factor);
  for (let i = 0; i < param.length; i++) {
    const g = fround(grad[i] * by);
    const sign = Math.sign(average(m[i], g, s.direction));
    param[i] = fround(fround(param[i] * s.decay) - s.rate * sign);
    m[i] = average(m[i], g, s.memory);
  }
}
