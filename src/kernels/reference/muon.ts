import type { MuonScalars } from "../optimize.js";
import { average } from "./average.js";
import { newtonSchulz } from "./newton-schulz.js";

const { fround } = Math;

/**
 * Muon on a matrix [rows, cols], in place, every operation rounded to float32 in the order of the brackets:
 *
 *     g ← g · factor
 *     b ← average of b and g                  (see `average`)
 *     u ← newtonSchulz(nesterov: average of b and g; else b)
 *     p ← (p · decay) − (rate · u)
 */
export function muon(
  param: Float32Array,
  grad: Float32Array,
  momentum: Float32Array,
  [rows, cols]: readonly [number, number],
  s: MuonScalars,
  factor = 1,
): void {
  const by = fround(factor);
  const ahead = new Float32Array(param.length);
  for (let i = 0; i < param.length; i++) {
    const g = fround(grad[i] * by);
    momentum[i] = average(momentum[i], g, s.momentum);
    ahead[i] = s.nesterov ? average(momentum[i], g, s.momentum) : momentum[i];
  }
  const update = newtonSchulz(ahead, rows, cols);
  for (let i = 0; i < param.length; i++)
    param[i] = fround(fround(param[i] * s.decay) - fround(s.rate * update[i]));
}
