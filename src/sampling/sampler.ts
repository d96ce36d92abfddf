import type { LinearHead } from "../head/linear.js";
import { type Candidates, chooseAmong } from "./candidates.js";
import { processLogits, type Sampling } from "./options.js";
import { type Place, pick } from "./pick.js";

export { type Place, pick } from "./pick.js";

/** First number of candidates where nothing says how many are enough, and the number past which the row is cheaper. */
const FIRST = 64;
const MOST_CANDIDATES = 1024;
/** Candidates beyond the k-th, to see where ties with it end. */
const SPARE = 8;

/** A chosen id with its raw logit, and the raw log-sum-exp of its row where it was asked for. */
interface Choice {
  readonly id: number;
  readonly logit: number;
  readonly logSumExp?: number;
}

/**
 * The next token for one hidden row [D]: the argmax, over what the filters leave, of processed logit + Gumbel noise
 * (an exact sample), or the argmax of the logits when greedy. Each way below gives the same id; they differ in how much
 * of the vocabulary is read and how many logits leave the head.
 * @throws InputError when no token is left, AbortError
 */
export async function chooseToken(
  head: LinearHead,
  hidden: Float32Array,
  sampling: Sampling,
  place: Place,
  signal?: AbortSignal,
): Promise<number> {
  return (await choose(head, hidden, sampling, place, false, signal)).id;
}

/**
 * `chooseToken` together with the token's raw log-probability (nats). That needs the whole vocabulary's sum, so the head
 * is read in full, but once for both.
 */
export async function chooseScored(
  head: LinearHead,
  hidden: Float32Array,
  sampling: Sampling,
  place: Place,
  signal?: AbortSignal,
): Promise<{ id: number; logProb: number }> {
  const { id, logit, logSumExp = Number.NaN } = await choose(head, hidden, sampling, place, true, signal);
  return { id, logProb: logit - logSumExp };
}

async function choose(
  head: LinearHead,
  hidden: Float32Array,
  sampling: Sampling,
  place: Place,
  scored: boolean,
  signal: AbortSignal | undefined,
): Promise<Choice> {
  const { greedy, temperature, topK, topP, minP, repetitionPenalty, seed } = sampling;
  const sums: { readonly logSumExp?: true } = scored ? { logSumExp: true } : {};
  if (!greedy && repetitionPenalty === 1 && topK === 0 && topP === 1 && minP === 0) {
    const sample = { temperature, seed, sequences: [place.sequence], steps: [place.step] };
    const answer = await head.ask(hidden, { sample, ...sums }, { signal });
    return {
      id: answer.sample.ids[0],
      logit: answer.sample.logits[0],
      logSumExp: answer.logSumExp?.[0],
    };
  }
  const seen = new Set(repetitionPenalty === 1 ? [] : place.context);
  for (let n = firstCandidates(sampling, seen); n <= MOST_CANDIDATES && n < head.vocabSize; n *= 8) {
    const answer = await head.ask(hidden, { topK: n, ...sums }, { signal });
    const chosen = chooseAmong(byId(answer.topK[0]), sampling, { ...place, context: seen });
    if (chosen) return { ...chosen, logSumExp: answer.logSumExp?.[0] };
  }
  const { logits, logSumExp } = await head.ask(hidden, { logits: true, ...sums }, { signal });
  const processed = logits.slice();
  processLogits(processed, sampling, seen);
  const id = pick(processed, (i) => i, sampling, place);
  return { id, logit: logits[id], logSumExp: logSumExp?.[0] };
}

/** How many candidates to ask for first; Infinity where no number of candidates tells what the filters leave. */
function firstCandidates(
  { greedy, topK, topP, minP, repetitionPenalty }: Sampling,
  seen: ReadonlySet<number>,
): number {
  // A penalty below 1 raises logits, also those of tokens that are no candidates.
  if (repetitionPenalty < 1) return Infinity;
  const penalised = Math.min(seen.size, FIRST);
  if (greedy) return 1 + (repetitionPenalty === 1 ? 0 : penalised);
  if (topK > 0) return topK + SPARE + penalised;
  // Top-p without top-k goes by the mass of the whole vocabulary.
  return minP > 0 && topP === 1 ? FIRST : Infinity;
}

/** Sorted by id, so that sums run, and ties fall, as they would over the whole row. */
function byId({ ids, logits }: { readonly ids: Int32Array; readonly logits: Float32Array }): Candidates {
  const order = Array.from(ids.keys()).sort((a, b) => ids[a] - ids[b]);
  return {
    ids: order.map((i) => ids[i]),
    logits: Float32Array.from(order, (i) => logits[i]),
    least: logits[logits.length - 1],
  };
}
