import { type Numbers, zerosLike } from "./numbers.js";

/**
 * out[n, o] = Σ_k x[n, k] · w[o, k] + bias[o].
 * @param x [N, K]
 * @param w [O, K], row-major
 * @param bias [O]; absent: none
 * @param K columns of `x` and of `w`
 * @returns [N, O]
 */
export function matmulForward<T extends Numbers>(x: T, w: T, bias: T | undefined, K: number): T {
  const N = x.length / K;
  const O = w.length / K;
  const out = zerosLike(x, N * O);
  for (let n = 0; n < N; n++)
    for (let o = 0; o < O; o++) out[n * O + o] = dot(x, n * K, w, o * K, K) + (bias ? bias[o] : 0);
  return out;
}

/**
 * Gradients of a product, given that of its output.
 * @param dOut [N, O]
 * @returns dx = dOut · w [N, K], dw = dOutᵀ · x [O, K], dBias = Σ_n dOut [O]
 */
export function matmulBackward<T extends Numbers>(
  x: T,
  w: T,
  dOut: T,
  K: number,
): { dx: T; dw: T; dBias: T } {
  const N = x.length / K;
  const O = w.length / K;
  const dx = zerosLike(x);
  const dw = zerosLike(w);
  const dBias = zerosLike(x, O);
  for (let n = 0; n < N; n++)
    for (let k = 0; k < K; k++) {
      let sum = 0;
      for (let o = 0; o < O; o++) sum += dOut[n * O + o] * w[o * K + k];
      dx[n * K + k] = sum;
    }
  for (let o = 0; o < O; o++) {
    for (let k = 0; k < K; k++) {
      let sum = 0;
      for (let n = 0; n < N; n++) sum += dOut[n * O + o] * x[n * K + k];
      dw[o * K + k] = sum;
    }
    let sum = 0;
    for (let n = 0; n < N; n++) sum += dOut[n * O + o];
    dBias[o] = sum;
  }
  return { dx, dw, dBias };
}

/** Σ_i a[aFirst + i] · b[bFirst + i] over `count` numbers, in float64, in index order. */
export function dot(a: Numbers, aFirst: number, b: Numbers, bFirst: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[aFirst + i] * b[bFirst + i];
  return sum;
}
