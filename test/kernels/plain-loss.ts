import type { LossQuery } from "../../src/kernels/loss.js";

/** Arrays of a head, in float64. */
export interface Plain {
  readonly weight: Float64Array;
  readonly bias?: Float64Array;
  readonly scale: number;
  readonly softcap?: number;
}

export const widen = (x: Float32Array) => Float64Array.from(x);

/** One row's logits, written apart from the library's. */
function logitsOf({ weight, bias, scale, softcap }: Plain, h: Float64Array, V: number): number[] {
  return Array.from({ length: V }, (_, c) => {
    let z = bias?.[c] ?? 0;
    for (let k = 0; k < h.length; k++) z += h[k] * weight[c * h.length + k];
    z *= scale;
    return softcap === undefined ? z : softcap * Math.tanh(z / softcap);
  });
}

function logSumExp(y: number[]): number {
  const max = Math.max(...y);
  return max + Math.log(y.reduce((sum, x) => sum + Math.exp(x - max), 0));
}

/** L of src/kernels/loss.ts, as it is written there. */
export function plainLoss(
  head: Plain,
  hidden: Float64Array,
  V: number,
  N: number,
  query: LossQuery,
  teacher?: Plain,
): number {
  const { ids, perRow, coefficients, uniform, classWeights, squares } = query;
  let L = 0;
  for (let n = 0; n < N; n++) {
    const row = (data: Float64Array) => data.subarray((n * data.length) / N, ((n + 1) * data.length) / N);
    const y = logitsOf(head, row(hidden), V);
    const lse = logSumExp(y);
    for (let i = n * perRow; i < (n + 1) * perRow; i++) L += coefficients[i] * (lse - y[ids[i]]);
    const live = y.flatMap((x, c) => (x === -Infinity ? [] : [c]));
    for (const c of live) L += (uniform?.[n] ?? 0) * (classWeights?.[c] ?? 1) * (lse - y[c]);
    if (query.teacher && teacher) {
      const t = logitsOf(teacher, row(widen(query.teacher.hidden)), V);
      const all = logSumExp(t);
      for (const c of live) L += query.teacher.soft[n] * Math.exp(t[c] - all) * (lse - y[c]);
    }
    L += (squares?.[n] ?? 0) * lse ** 2;
  }
  return L;
}

/** dL/dx by central differences. */
export function differences(x: Float64Array, L: () => number): Float64Array {
  const step = 1e-5;
  return x.map((value, i) => {
    if (value === -Infinity) return 0;
    x[i] = value + step;
    const above = L();
    x[i] = value - step;
    const below = L();
    x[i] = value;
    return (above - below) / (2 * step);
  });
}
