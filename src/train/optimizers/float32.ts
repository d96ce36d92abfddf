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

/** A decay rate β as an average takes it: float32 of β and of 1 − β (in float64), each rounded once. */
export interface Rate {
  readonly beta: number;
  readonly rest: number;
}

export function rateOf(beta: number): Rate {
  return { beta: fround(beta), rest: fround(1 - beta) };
}

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
