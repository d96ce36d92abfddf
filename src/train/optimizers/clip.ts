import { InputError } from "../../errors.js";
import { sumOfSquares } from "../../kernels/reference/squares.js";
import { checkNumber } from "./hyper.js";
import { checkFinite, type Tensors } from "./parameter.js";

/** Added to the norm, as PyTorch does, so that gradients of zeros are not divided by zero. */
const EPS = 1e-6;

/**
 * Scales all gradients, in place, by maxNorm / (norm + 1e-6) where that is below 1, as `torch.nn.utils.clip_grad_norm_`
 * does. The norm is a float64: sums of squares (see `sumOfSquares`) added in the order of the tensors' names (by UTF-16
 * code units), so it does not depend on the order of the map. The factor is rounded to float32 once, as is each product.
 * @param maxNorm above 0; Infinity only measures
 * @returns the global L2 norm before clipping
 * @throws InputError, before anything has changed, naming the first tensor with NaN or an infinity, or for a `maxNorm`
 *   out of range
 */
export function clipByGlobalNorm(gradients: Tensors, maxNorm: number): number {
  checkNumber(
    "clipByGlobalNorm",
    "maxNorm",
    maxNorm,
    maxNorm > 0,
    "a number above 0 (Infinity only measures)",
  );
  const named = [...gradients].sort(([a], [b]) => (a < b ? -1 : 1));
  let sum = 0;
  for (const [name, gradient] of named) {
    if (!(gradient instanceof Float32Array))
      throw new InputError(`clipByGlobalNorm: "${name}": expected a Float32Array`);
    const squares = sumOfSquares(gradient);
    if (!Number.isFinite(squares)) checkFinite("clipByGlobalNorm", name, gradient);
    sum += squares;
  }
  const norm = Math.sqrt(sum);
  const factor = clipFactor(norm, maxNorm);
  if (factor < 1)
    for (const [, gradient] of named) for (let i = 0; i < gradient.length; i++) gradient[i] *= factor;
  return norm;
}

/** What gradients of this global norm are multiplied by: the float32 maxNorm / (norm + 1e-6), at most 1. */
export function clipFactor(norm: number, maxNorm: number): number {
  return Math.min(1, Math.fround(maxNorm / (norm + EPS)));
}
