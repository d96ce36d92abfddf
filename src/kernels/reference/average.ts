import type { Rate } from "../optimize.js";

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
