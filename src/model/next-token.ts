import type { LinearHead } from "../head/linear.js";
import type { Sampling } from "../sampling/options.js";
import { chooseScored, chooseToken, type Place } from "../sampling/sampler.js";

/** What is wanted beside the token. */
export interface Beside {
  /** The likeliest tokens to list, from 0. */
  readonly alternatives: number;
  readonly rank: boolean;
}

/** A chosen token; log-probabilities are raw. */
export interface Chosen {
  readonly id: number;
  readonly logProb: number;
  readonly rank?: number;
  readonly alternatives?: readonly { readonly id: number; readonly logProb: number }[];
}

/**
 * Chooses the token after one hidden row [D] and says how likely it was. Where the choice and its probability can be
 * asked together, the head's matrix is read once.
 */
export async function nextToken(
  head: LinearHead,
  hidden: Float32Array,
  sampling: Sampling,
  place: Place,
  beside: Beside,
  signal?: AbortSignal,
): Promise<Chosen> {
  const count = Math.min(beside.alternatives, head.vocabSize);
  const plain = sampling.repetitionPenalty === 1 && sampling.suppressTokens.size === 0;
  if (plain && sampling.greedy) {
    const ask = { topK: Math.max(1, count), logSumExp: true } as const;
    const { topK, logSumExp } = await head.ask(hidden, ask, { signal });
    const [{ ids, logits }] = topK;
    const list = Array.from(ids, (id, i) => ({ id, logProb: logits[i] - logSumExp[0] }));
    // Nothing is larger than the largest: its rank needs no ask.
    return chosen(list[0].id, list[0].logProb, beside.rank ? 1 : undefined, list.slice(0, count));
  }
  if (!beside.rank && count === 0) {
    const { id, logProb } = await chooseScored(head, hidden, sampling, place, signal);
    return chosen(id, logProb, undefined, []);
  }
  const id = await chooseToken(head, hidden, sampling, place, signal);
  const ask = {
    logProbs: [id],
    ...(beside.rank && { rank: [id] }),
    ...(count > 0 && { topK: count }),
  };
  const answer = await head.ask(hidden, ask, { signal });
  const [top] = answer.topK ?? [];
  const list = top ? Array.from(top.ids, (id, i) => ({ id, logProb: top.logProbs![i] })) : [];
  return chosen(id, answer.logProbs[0][0], answer.rank?.[0][0], list);
}

function chosen(
  id: number,
  logProb: number,
  rank: number | undefined,
  alternatives: readonly { readonly id: number; readonly logProb: number }[],
): Chosen {
  return {
    id,
    logProb,
    ...(rank !== undefined && { rank }),
    ...(alternatives.length > 0 && { alternatives }),
  };
}
