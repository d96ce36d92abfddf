import { InputError } from "../errors.js";
import type { LinearHead } from "../head/linear.js";
import { gumbel, gumbelKey } from "../kernels/reference/gumbel.js";
import { filter, processLogits, type Sampling } from "./options.js";

/** Where a token stands: its noise is a function of the seed and these two, and of nothing else. */
export interface Place {
  /** Which of several sequences of one seed. */
  readonly sequence: number;
  /** Which token of the sequence, counted from 0. */
  readonly step: number;
  /** Prompt and output so far, for the repetition penalty. */
  readonly context: Iterable<number>;
}

/** More candidates than k are asked for, to see ties at the k-th place; past this k the whole row is processed. */
const SPARE = 8;
const MOST_CANDIDATES = 1024;

/**
 * The next token for one hidden row [D]: the argmax, over what the filters leave, of processed logit + Gumbel noise
 * (an exact sample), or the argmax of the logits when greedy. Each way below gives the same id; they differ in how much
 * of the vocabulary is read and how many logits leave the head.
 */
export async function chooseToken(
  head: LinearHead,
  hidden: Float32Array,
  sampling: Sampling,
  place: Place,
  signal?: AbortSignal,
): Promise<number> {
  const { greedy, temperature, topK, topP, minP, repetitionPenalty, seed } = sampling;
  const V = head.vocabSize;
  if (repetitionPenalty === 1) {
    if (greedy) return (await head.ask(hidden, { topK: 1 }, { signal })).topK[0].ids[0];
    if (topK === 0 && topP === 1 && minP === 0) {
      const sample = { temperature, seed, sequences: [place.sequence], steps: [place.step] };
      return (await head.ask(hidden, { sample }, { signal })).sample.ids[0];
    }
    if (topK > 0 && topK + SPARE <= Math.min(V, MOST_CANDIDATES)) {
      const [top] = (await head.ask(hidden, { topK: topK + SPARE }, { signal })).topK;
      // A tie that reaches the last of the spares may go on: then only the whole row tells.
      if (top.logits[topK - 1] > top.logits[topK + SPARE - 1]) return fromCandidates(top, sampling, place);
    }
  }
  const { logits } = await head.ask(hidden, { logits: true }, { signal });
  processLogits(logits, sampling, place.context);
  return pick(logits, (i) => i, sampling, place);
}

/** Among the k best alone, ordered by id so that sums run as they would over the whole row. */
function fromCandidates(
  top: { ids: Int32Array; logits: Float32Array },
  sampling: Sampling,
  place: Place,
): number {
  const order = Array.from(top.ids.keys()).sort((a, b) => top.ids[a] - top.ids[b]);
  const ids = order.map((i) => top.ids[i]);
  const logits = Float32Array.from(order, (i) => top.logits[i] / Math.fround(sampling.temperature));
  filter(logits, sampling);
  return pick(logits, (i) => ids[i], sampling, place);
}

/** The argmax of logit + noise over what is left (greedy: of the logit); equal values: the lower id. */
export function pick(
  logits: Float32Array,
  idOf: (index: number) => number,
  sampling: Sampling,
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
  return chosen;
}
