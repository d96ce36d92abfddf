import type { NormOp } from "../op.js";
import { type Numbers, stored, zerosLike } from "./numbers.js";

/** What a norm needs to know: `group` neighbouring columns are normalised together. */
export type NormSpec = Pick<NormOp, "kind" | "group" | "eps">;

/**
 * Normalises each group of `group` numbers, x̂ = (x - m) / √(mean((x - m)²) + eps), with m their mean (`layer`) or
 * 0 (`rms`); then out = x̂ · weight + bias.
 * @param x [N, columns], columns a multiple of `group`
 * @param weight [group], shared by the groups, or [columns]; absent: 1
 * @param bias the same; absent: 0
 * @returns [N, columns]
 */
export function normForward<T extends Numbers>(
  spec: NormSpec,
  x: T,
  columns: number,
  weight?: T,
  bias?: T,
): T {
  const { group } = spec;
  const out = zerosLike(x);
  for (let at = 0; at < x.length; at += group) {
    const { mean, inverse } = moments(spec, x, at);
    for (let i = at; i < at + group; i++) {
      const scaled = (x[i] - mean) * inverse * (weight ? weight[place(weight, i, columns)] : 1);
      out[i] = scaled + (bias ? bias[place(bias, i, columns)] : 0);
    }
  }
  return out;
}

/**
 * Gradients of a norm, given that of its output. With g = dOut · weight and means over the group:
 * dx = (g - mean(g) - x̂ · mean(g · x̂)) / √(…), where `rms` has no mean(g).
 * @returns dx [N, columns]; dWeight and dBias as long as `weight` and `bias`, absent where those are
 */
export function normBackward<T extends Numbers>(
  spec: NormSpec,
  x: T,
  columns: number,
  dOut: T,
  weight?: T,
  bias?: T,
): { dx: T; dWeight?: T; dBias?: T } {
  const { group, kind } = spec;
  const dx = zerosLike(x);
  // Plain arrays: a sum over all rows is rounded once, at the end.
  const dWeight = weight && new Float64Array(weight.length);
  const dBias = bias && new Float64Array(bias.length);
  for (let at = 0; at < x.length; at += group) {
    const { mean, inverse } = moments(spec, x, at);
    let sumG = 0;
    let sumGx = 0;
    for (let i = at; i < at + group; i++) {
      const hat = (x[i] - mean) * inverse;
      const g = dOut[i] * (weight ? weight[place(weight, i, columns)] : 1);
      sumG += g;
      sumGx += g * hat;
      if (dWeight) dWeight[place(dWeight, i, columns)] += dOut[i] * hat;
      if (dBias) dBias[place(dBias, i, columns)] += dOut[i];
    }
    const meanG = kind === "layer" ? sumG / group : 0;
    for (let i = at; i < at + group; i++) {
      const hat = (x[i] - mean) * inverse;
      const g = dOut[i] * (weight ? weight[place(weight, i, columns)] : 1);
      dx[i] = (g - meanG - hat * (sumGx / group)) * inverse;
    }
  }
  return { dx, dWeight: dWeight && stored(x, dWeight), dBias: dBias && stored(x, dBias) };
}

/** Mean (0 for `rms`) and 1 / √(variance + eps) of the group that starts at `at`. */
function moments(spec: NormSpec, x: Numbers, at: number): { mean: number; inverse: number } {
  const { group, kind, eps } = spec;
  let mean = 0;
  if (kind === "layer") {
    for (let i = at; i < at + group; i++) mean += x[i];
    mean /= group;
  }
  let square = 0;
  for (let i = at; i < at + group; i++) square += (x[i] - mean) ** 2;
  return { mean, inverse: 1 / Math.sqrt(square / group + eps) };
}

/** Which entry of a weight meets element i of x: a weight of one group repeats, since a row is whole groups. */
function place(weight: Numbers, i: number, columns: number): number {
  return (i % columns) % weight.length;
}
