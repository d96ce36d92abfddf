import type { RopeOp } from "../op.js";
import { type Numbers, zerosLike } from "./numbers.js";

/** What rotary positions need to know; the first 2 · frequencies.length columns of each head turn. */
export type RopeSpec = Pick<RopeOp, "headDim" | "layout" | "frequencies" | "attentionFactor">;

/**
 * Rotary position embedding: each pair (a, b) of a head's columns turns by angle = position · frequency, in float64:
 * (a·cos - b·sin, b·cos + a·sin) · attentionFactor. `half` pairs column i with i + n/2 of the n that turn,
 * `interleaved` 2i with 2i + 1. The columns after those stay as they are.
 * @param x [N, columns], columns a multiple of headDim
 * @param positions [N]
 * @returns [N, columns]
 */
export function ropeForward<T extends Numbers>(spec: RopeSpec, x: T, positions: ArrayLike<number>): T {
  return turn(spec, x, positions, 1);
}

/**
 * Gradient of x, given that of the output: the same turn back (a rotation's transpose), with the same factor.
 * @param dOut [N, columns]
 * @returns dx [N, columns]
 */
export function ropeBackward<T extends Numbers>(spec: RopeSpec, dOut: T, positions: ArrayLike<number>): T {
  return turn(spec, dOut, positions, -1);
}

function turn<T extends Numbers>(spec: RopeSpec, x: T, positions: ArrayLike<number>, direction: 1 | -1): T {
  const { headDim, layout, frequencies, attentionFactor } = spec;
  const out = zerosLike(x);
  out.set(x);
  const pairs = frequencies.length;
  const columns = x.length / positions.length;
  for (let head = 0; head < x.length; head += headDim) {
    const position = positions[Math.floor(head / columns)];
    for (let i = 0; i < pairs; i++) {
      const angle = direction * position * frequencies[i];
      const cos = Math.cos(angle) * attentionFactor;
      const sin = Math.sin(angle) * attentionFactor;
      const a = head + (layout === "half" ? i : 2 * i);
      const b = layout === "half" ? a + pairs : a + 1;
      out[a] = x[a] * cos - x[b] * sin;
      out[b] = x[b] * cos + x[a] * sin;
    }
  }
  return out;
}
