import { filter, type Sampling } from "./options.js";
import { type Place, pick } from "./pick.js";
import { applyTemperature, penalizeRepetition } from "./processors.js";

/** The likeliest ids of a row, rising, with their raw logits. No other id's logit is above `least`. */
export interface Candidates {
  readonly ids: readonly number[];
  readonly logits: Float32Array;
  readonly least: number;
}

/**
 * Chooses among candidates as among the whole row, or says that more are needed (undefined): the same processors run
 * over them in the same order, and the result counts only where no other id could have been kept. For a repetition
 * penalty of at least 1, which never raises a logit; `place.context` is read once.
 */
export function chooseAmong(
  { ids, logits, least }: Candidates,
  sampling: Sampling,
  place: Place,
): { id: number; logit: number } | undefined {
  const { greedy, temperature, topK, topP, minP, repetitionPenalty, suppressTokens } = sampling;
  const z = logits.slice();
  if (repetitionPenalty !== 1) {
    const seen = new Set(place.context);
    const here = Array.from(ids.keys()).filter((i) => seen.has(ids[i]));
    penalizeRepetition(z, here, repetitionPenalty);
  }
  for (const [i, id] of ids.entries()) if (suppressTokens.has(id)) z[i] = -Infinity;
  // What the other ids reach at most, by the same arithmetic. Strictly above it no tie with them is possible.
  const others = Float32Array.of(least);
  if (!greedy) {
    applyTemperature(z, temperature);
    applyTemperature(others, temperature);
  }
  const [bound] = others;
  const falling = z.slice().sort().reverse();
  // Greedy without a penalty: equal logits come by rising id, so the first candidate left is the answer even in a tie.
  let enough = greedy && (repetitionPenalty === 1 ? falling[0] > -Infinity : falling[0] > bound);
  if (!greedy) {
    const whole = topK > 0 && topK <= z.length && falling[topK - 1] > bound;
    const others = topP === 1 && minP > 0 && Math.exp(bound - falling[0]) < minP;
    // Masked ids are never kept: when they are all that is left, the candidates are the whole row.
    enough = whole || others || bound === -Infinity;
  }
  if (!enough) return undefined;
  if (!greedy) filter(z, sampling);
  const id = pick(z, (i) => ids[i], sampling, place);
  return { id, logit: logits[ids.indexOf(id)] };
}
