import type { SgdScalars } from "../optimize.js";

const { fround } = Math;

/**
 * Stochastic gradient descent on flat arrays, in place, every operation rounded to float32 in the order of the brackets:
 *
 *     g ← g · factor
 *     d ← g + (decay · p)
 *     b ← (momentum · b) + (share · d)      where there is a momentum; else b is d
 *     d ← nesterov: d + (momentum · b); else b
 *     p ← p − (rate · d)
 */
export function sgd(
  param: Float32Array,
  grad: Float32Array,
  momentum: Float32Array | undefined,
  s: SgdScalars,
  factor = 1,
): void {
  const by = fround(factor);
  for (let i = 0; i < param.length; i++) {
    let d = fround(fround(grad[i] * by) + fround(s.decay * param[i]));
    if (momentum) {
      momentum[i] = fround(fround(s.momentum * momentum[i]) + fround(s.share * d));
      d = s.nesterov ? fround(d + fround(s.momentum * momentum[i])) : momentum[i];
    }
    param[i] = fround(param[i] - fround(s.rate * d));
  }
}
