import type { DropoutDraw } from "../tape.js";
import { mix32 } from "./gumbel.js";
import { type Numbers, zerosLike } from "./numbers.js";

/**
 * Dropout (Srivastava and others, 2014; "inverted", as PyTorch has it). Whether a number is dropped is a function of a
 * counter: the run and the op make a key, a key and a row the row's, and that and the column a number of 32 bits. So a
 * mask is never stored, and is the same for any threads. The WebAssembly kernel mixes the same whole numbers.
 */

/** Two words of 32 bits: what all masks of one op in one run begin with. */
export type DropoutKey = readonly [number, number];

export function dropoutKey({ seed, step, batch = 0 }: DropoutDraw, stream: number): DropoutKey {
  let key = 0x243f6a88;
  for (const number of [seed, step, batch, stream])
    for (const word of [number, Math.floor(number / 2 ** 32)])
      key = mix32((mix32(key ^ 0x9e3779b9) + word) | 0);
  return [mix32(key ^ 0x7f4a7c15), mix32(key + 0x1b873593)];
}

/** A number is dropped when its 32 bits, read without sign, are below this: rate · 2^32, rounded down. */
export function dropoutThreshold(rate: number): number {
  return Math.floor(rate * 2 ** 32);
}

/** What a number that stays is multiplied by, 1 / (1 − rate), a float32. */
export function dropoutScale(rate: number): number {
  return Math.fround(1 / (1 - rate));
}

/**
 * x [rows, width], each number dropped (0) or times 1 / (1 − rate).
 * @param first number of x's first row in the run
 */
export function dropoutForward<T extends Numbers>(
  x: T,
  width: number,
  rate: number,
  [a, b]: DropoutKey,
  first = 0,
): T {
  const out = zerosLike(x);
  const threshold = dropoutThreshold(rate);
  const scale = dropoutScale(rate);
  for (let n = 0; n * width < x.length; n++) {
    const row = mix32(mix32((first + n) ^ a) + b);
    for (let c = 0; c < width; c++)
      if (mix32(mix32(c ^ row) + b) >>> 0 >= threshold) out[n * width + c] = x[n * width + c] * scale;
  }
  return out;
}

/** The gradient passes where the number did, by the same factor: the mask is made again. */
export function dropoutBackward<T extends Numbers>(dOut: T, width: number, rate: number, key: DropoutKey): T {
  return dropoutForward(dOut, width, rate, key);
}
