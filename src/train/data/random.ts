import { mix32 } from "../../kernels/reference/gumbel.js";

/**
 * A number in [0, 1) of 53 bits as a function of its arguments and of nothing else, so that any draw can be made again
 * without those before it.
 * @param seed a whole number in [0, 2^53)
 * @param stream whole number; draws of different streams are unrelated
 * @param counter whole number in [0, 2^53)
 */
export function uniform(seed: number, stream: number, counter: number): number {
  let key = 0x3c6ef372;
  for (const word of [seed, Math.floor(seed / 2 ** 32), stream, counter, Math.floor(counter / 2 ** 32)])
    key = mix32((mix32(key ^ 0x9e3779b9) + word) | 0);
  const high = mix32(key ^ 0x7f4a7c15) >>> 5;
  const low = mix32(key + 0x1b873593) >>> 6;
  return (high * 2 ** 26 + low) / 2 ** 53;
}

/** The numbers 0 … length − 1 in an order drawn by seed and stream (Fisher and Yates). */
export function permutation(length: number, seed: number, stream: number): Uint32Array {
  const order = Uint32Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; i--) {
    const j = Math.floor(uniform(seed, stream, i) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
