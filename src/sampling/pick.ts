import { InputError } from "../errors.js";
import { gumbel, gumbelKey } from "../kernels/reference/gumbel.js";
import type { Sampling } from "./options.js";

/** Where a token stands: its noise is a function of the seed and these two, and of nothing else. */
export interface Place {
  /** Which of several sequences of one seed. */
  readonly sequence: number;
  /** Which token of the sequence, counted from 0. */
  readonly step: number;
  /** Prompt and output so far, for the repetition penalty. */
  readonly context: Iterable<number>;
}

/**
 * The argmax of logit + noise over what is left (greedy: of the logit); equal values: the lower id.
 * @param logits processed; index i stands for id idOf(i), rising
 * @throws InputError when nothing is left, or the logits left float32's range
 */
export function pick(
  logits: Float32Array,
  idOf: (index: number) => number,
  sampling: Pick<Sampling, "greedy" | "seed">,
  { sequence, step }: Pick<Place, "sequence" | "step">,
): number {
  const key = gumbelKey(sampling.seed, sequence, step);
  let best = -Infinity;
  let chosen = -1;
  for (let i = 0; i < logits.length; i++) {
    const z = logits[i];
    if (z === -Infinity) continue;
    const value = sampling.greedy ? z : Math.fround(z + gumbel(key, idOf(i)));
    if (value > best) {
      best = value;
      chosen = idOf(i);
    }
  }
  if (chosen < 0) throw new InputError("no token is left to choose from: every logit is -Infinity");
  if (best === Infinity)
    throw new InputError("logits / temperature leave the range of float32; take a higher temperature");
  return chosen;
}
