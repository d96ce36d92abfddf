import type { Rate } from "../../kernels/optimize.js";

const { fround } = Math;

/**
 * base ^ exponent in float64 by repeated squaring: `Math.pow` may differ in its last bit from one JavaScript engine to
 * the next, and training on two of them would drift apart.
 * @param exponent a whole number from 0
 */
export function power(base: number, exponent: number): number {
  let result = 1;
  for (let square = base, rest = exponent; rest > 0; rest = Math.floor(rest / 2), square *= square)
    if (rest % 2 === 1) result *= square;
  return result;
}

export function rateOf(beta: number): Rate {
  return { beta: fround(beta), rest: fround(1 - beta) };
}
