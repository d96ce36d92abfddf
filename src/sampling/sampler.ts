import type { LinearHead } from "../head/linear.js";
import { Breather } from "../kernels/reference/breather.js";
import { type Candidates, chooseAmong } from "./candidates.js";
import { processLogits, type Sampling } from "./options.js";
import { type Place, pick } from "./pick.js";

export { type Place, pick } from "./pick.js";

/** First number of candidates where nothing says how many are enough, and the number past which the row is cheaper. */
const FIRST = 64;
const MOST_CANDIDATES = 1024;
/** Logits of whole rows that one ask may bring: 16 MB. */
const MOST_LOGITS = 2 ** 22;
/** Candidates beyond the k-th, to see where ties with it end. */
const SPARE = 8;

/** A chosen id with its raw logit, and the raw log-sum-exp of its row where it was asked for. */
interface Choice {
  readonly id: number;
  readonly logit: number;
  readonly logSumExp?: number;
}

/** A chosen id and its raw log-probability (nats). */
export interface Scored {
  readonly id: number;
  readonly logProb: number;
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
  const [{ id }] = await choose(head, hidden, sampling, [place], false, signal);
  return id;
}

/**
 * `chooseToken` together with the token's raw log-probability. That needs the whole vocabulary's sum, so the head is
 * read in full, but once for both.
 */
export async function chooseScored(
  head: LinearHead,
  hidden: Float32Array,
  sampling: Sampling,
  place: Place,
  signal?: AbortSignal,
): Promise<Scored> {
  const [scored] = await chooseScoredRows(head, hidden, sampling, [place], signal);
  return scored;
}

/**
 * `chooseScored` for each of N hidden rows [N, D] and its place. The head is asked once for all rows, and again only for
 * those that the first ask leaves open. What a row gets depends on no other row.
 */
export async function chooseScoredRows(
  head: LinearHead,
  hidden: Float32Array,
  sampling: Sampling,
  places: readonly Place[],
  signal?: AbortSignal,
): Promise<Scored[]> {
  const choices = await choose(head, hidden, sampling, places, true, signal);
  return choices.map(({ id, logit, logSumExp = Number.NaN }) => ({ id, logProb: logit - logSumExp }));
}

/** Chooses for some rows and leaves the others open (undefined). */
type Way = (hidden: Float32Array, places: readonly Place[]) => Promise<(Choice | undefined)[]>;

async function choose(
  head: LinearHead,
  hidden: Float32Array,
  sampling: Sampling,
  places: readonly Place[],
  scored: boolean,
  signal: AbortSignal | undefined,
): Promise<Choice[]> {
  const { greedy, temperature, topK, topP, minP, repetitionPenalty, suppressTokens, seed } = sampling;
  const sums: { readonly logSumExp?: true } = scored ? { logSumExp: true } : {};
  const seen = places.map((place) => ({
    ...place,
    context: new Set(repetitionPenalty === 1 ? [] : place.context),
  }));
  const choices: (Choice | undefined)[] = places.map(() => undefined);
  const settle = async (most: number, way: Way): Promise<void> => {
    const open = [...choices.keys()].filter((row) => choices[row] === undefined);
    for (let first = 0; first < open.length; first += most) {
      const rows = open.slice(first, first + most);
      const found = await way(
        rowsOf(hidden, rows, head.hiddenSize),
        rows.map((row) => seen[row]),
      );
      for (const [i, row] of rows.entries()) choices[row] = found[i];
    }
  };
  if (!greedy && repetitionPenalty === 1 && topK === 0 && topP === 1 && minP === 0)
    await settle(Infinity, async (rows, at) => {
      const sequences = at.map(({ sequence }) => sequence);
      const sample = { temperature, seed, sequences, steps: at.map(({ step }) => step) };
      const answer = await head.ask(rows, { sample, ...sums }, { signal });
      const { ids, logits } = answer.sample;
      // Where the largest of all is not suppressed, it is the largest of those that are not.
      return Array.from(ids, (id, i) =>
        suppressTokens.has(id) ? undefined : { id, logit: logits[i], logSumExp: answer.logSumExp?.[i] },
      );
    });
  const enough = seen.reduce((most, { context }) => Math.max(most, firstCandidates(sampling, context)), 1);
  for (let n = enough; n <= MOST_CANDIDATES && n < head.vocabSize; n *= 8)
    await settle(Infinity, async (rows, at) => {
      const answer = await head.ask(rows, { topK: n, ...sums }, { signal });
      return at.map((place, i) => {
        const chosen = chooseAmong(byId(answer.topK[i]), sampling, place);
        return chosen && { ...chosen, logSumExp: answer.logSumExp?.[i] };
      });
    });
  const V = head.vocabSize;
  await settle(Math.max(1, Math.floor(MOST_LOGITS / V)), async (rows, at) => {
    const answer = await head.ask(rows, { logits: true, ...sums }, { signal });
    const breather = new Breather(signal);
    const found: Choice[] = [];
    for (const [i, place] of at.entries()) {
      if (i > 0) await breather.pause();
      const logits = answer.logits.subarray(i * V, (i + 1) * V);
      const processed = logits.slice();
      processLogits(processed, sampling, place.context);
      const id = pick(processed, (index) => index, sampling, place);
      found.push({ id, logit: logits[id], logSumExp: answer.logSumExp?.[i] });
    }
    return found;
  });
  return choices as Choice[];
}

/** Some rows of [N, D], packed. */
function rowsOf(hidden: Float32Array, rows: readonly number[], D: number): Float32Array {
  if (rows.length * D === hidden.length) return hidden;
  const packed = new Float32Array(rows.length * D);
  for (const [i, row] of rows.entries()) packed.set(hidden.subarray(row * D, (row + 1) * D), i * D);
  return packed;
}

/** How many candidates to ask for first; Infinity where no number of candidates tells what the filters leave. */
function firstCandidates(
  { greedy, topK, topP, minP, repetitionPenalty, suppressTokens }: Sampling,
  seen: ReadonlySet<number>,
): number {
  // A penalty below 1 raises logits, also those of tokens that are no candidates.
  if (repetitionPenalty < 1) return Infinity;
  // Among the likeliest may stand some that fall behind, or out.
  const fallen = Math.min(seen.size + suppressTokens.size, FIRST);
  if (greedy) return 1 + fallen;
  if (topK > 0) return topK + SPARE + fallen;
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
