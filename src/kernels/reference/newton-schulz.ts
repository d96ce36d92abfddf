import { sumOfSquares } from "./squares.js";

const { fround } = Math;

/** Keller Jordan's coefficients (https://kellerjordan.github.io/posts/muon/): the steepest at 0, not convergent to 1. */
export const COEFFICIENTS: readonly number[] = [3.4445, -4.775, 2.0315].map(fround);
const [A, B, C] = COEFFICIENTS;
export const ITERATIONS = 5;
/** A norm below this is taken for it, so that a matrix of zeros stays zeros. */
export const LEAST_NORM = fround(1e-7);

/**
 * A matrix with the singular vectors of `matrix` and singular values of about 0.7 to 1.2, by five Newton–Schulz
 * iterations: X ← matrix / ‖matrix‖, then X ← A·X + (B·XXᵀ + C·(XXᵀ)²)·X.
 * `torch.optim.Muon` runs them in bfloat16; here all is float32: each scalar and each product and sum is rounded to it, a
 * product of matrices sums over its inner index one after the other, and ‖matrix‖ is rounded once (see `sumOfSquares`).
 * A matrix with more rows than columns is transposed first.
 * @param matrix [rows, cols], row-major, finite; not changed
 * @returns [rows, cols]
 */
export function newtonSchulz(matrix: Float32Array, rows: number, cols: number): Float32Array {
  if (rows > cols) return transpose(newtonSchulz(transpose(matrix, rows, cols), cols, rows), cols, rows);
  const norm = Math.max(fround(Math.sqrt(sumOfSquares(matrix))), LEAST_NORM);
  let x = matrix.map((value) => value / norm); // [rows, cols]
  for (let i = 0; i < ITERATIONS; i++) {
    const gram = product(x, transpose(x, rows, cols), rows, cols, rows); // [rows, rows], symmetric
    const square = product(gram, gram, rows, rows, rows);
    const factor = gram.map((value, at) => fround(B * value) + fround(C * square[at]));
    const rest = product(factor, x, rows, rows, cols);
    x = x.map((value, at) => fround(A * value) + rest[at]);
  }
  return x;
}

/** a [I, K] · b [K, J] → [I, J]; each sum runs over k = 0, 1, … in float32. */
function product(a: Float32Array, b: Float32Array, I: number, K: number, J: number): Float32Array {
  const out = new Float32Array(I * J);
  for (let i = 0; i < I; i++)
    for (let k = 0; k < K; k++) {
      const factor = a[i * K + k];
      // Storing rounds the sum.
      for (let j = 0; j < J; j++) out[i * J + j] += fround(factor * b[k * J + j]);
    }
  return out;
}

function transpose(matrix: Float32Array, rows: number, cols: number): Float32Array {
  const out = new Float32Array(matrix.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) out[c * rows + r] = matrix[r * cols + c];
  return out;
}
