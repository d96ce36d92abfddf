import type { HeadAnswer, HeadQuery, HeadWeights } from "../device.js";
import { checkAsk } from "../validate.js";
import type { Breather } from "./breather.js";
import { emptyFold, type Fold, foldLogits, SHARD, sampleFold, sumFold } from "./fold.js";
import { gumbelKey } from "./gumbel.js";
import { dot } from "./matmul.js";

/** A head with its matrix widened: what `logitsOf` reads. */
export type PlainHead = Pick<HeadWeights, "vocabSize" | "bias" | "scale" | "softcap"> & {
  /** [at least vocabSize, D], row-major. */
  readonly weight: Float32Array;
  readonly D: number;
};

/**
 * Final logits of ids [first, end) for one hidden row: softcap(scale · (h·Wᵀ + b)). The product is summed in float64,
 * and each of the four steps (product, bias, scale, cap) is rounded to float32.
 * @param hidden [D]
 * @returns [end - first]
 */
export function logitsOf(head: PlainHead, hidden: Float32Array, first: number, end: number): Float32Array {
  const { weight, bias, scale, softcap, D } = head;
  const out = new Float32Array(end - first);
  for (let i = 0; i < out.length; i++) {
    out[i] = dot(hidden, 0, weight, (first + i) * D, D);
    if (bias) out[i] += bias[first + i];
    if (scale !== 1) out[i] *= scale;
    if (softcap !== undefined) out[i] = softcap * Math.tanh(out[i] / softcap);
  }
  return out;
}

/**
 * The reference of `Device.ask`: rows one after the other, the vocabulary in shards. Memory: the answer, and a few
 * numbers a shard of one row.
 * @param weight the head's matrix, widened, [rows, D]
 * @param hidden [N, D]
 * @param breather asked after each shard of work whether to pause
 * @throws InputError for a query that makes no sense, and for a row that has no answer: NaN or infinity in `hidden`;
 * logits that are NaN, +Infinity, or all -Infinity. AbortError when the signal fires.
 */
export async function ask(
  head: HeadWeights,
  weight: Float32Array,
  hidden: Float32Array,
  query: HeadQuery,
  breather: Breather,
): Promise<HeadAnswer> {
  const { N, D } = checkAsk(head, hidden, query);
  const { vocabSize } = head;
  const plain: PlainHead = { ...head, weight, D };
  const answer = blank(N, vocabSize, query);
  for (let n = 0; n < N; n++) {
    const row = hidden.subarray(n * D, (n + 1) * D);
    const targets = await targetLogits(plain, row, n, query, breather);
    answer.targetLogits?.set(targets, n * targets.length);
    let fold = emptyFold({
      what: `row ${n}`,
      topK: query.topK,
      targets: query.rank ? targets : new Float32Array(0),
      sample: query.sample && {
        temperature: Math.fround(query.sample.temperature),
        key: gumbelKey(query.sample.seed, query.sample.sequences[n], query.sample.steps[n]),
      },
    });
    for (let first = 0; first < vocabSize; first += SHARD) {
      const logits = logitsOf(plain, row, first, Math.min(first + SHARD, vocabSize));
      fold = foldLogits(fold, logits, first);
      answer.logits?.set(logits, n * vocabSize + first);
      await breather.pause();
    }
    write(answer, n, fold);
  }
  return answer;
}

/** [perRow]: logits of the row's targets, by the same steps as all others. */
async function targetLogits(
  head: PlainHead,
  hidden: Float32Array,
  n: number,
  { targets }: HeadQuery,
  breather: Breather,
): Promise<Float32Array> {
  const perRow = targets?.perRow ?? 0;
  const out = new Float32Array(perRow);
  for (let i = 0; i < perRow; i++) {
    const id = targets?.ids[n * perRow + i] ?? 0;
    out[i] = logitsOf(head, hidden, id, id + 1)[0];
    if (i % SHARD === SHARD - 1) await breather.pause();
  }
  return out;
}

/** An answer of zeros with the fields that were asked. */
function blank(N: number, vocabSize: number, query: HeadQuery): HeadAnswer {
  const { topK, targets, sample } = query;
  const perRow = targets?.perRow ?? 0;
  return {
    ...(topK > 0 && { topIds: new Int32Array(N * topK), topLogits: new Float32Array(N * topK) }),
    ...(targets && { targetLogits: new Float32Array(N * perRow) }),
    ...(targets && query.rank && { targetRanks: new Int32Array(N * perRow) }),
    ...(query.logSumExp && { logSumExp: new Float64Array(N) }),
    ...(query.entropy && { entropy: new Float64Array(N) }),
    ...(sample && { sampleIds: new Int32Array(N), sampleLogits: new Float32Array(N) }),
    ...(query.logits && { logits: new Float32Array(N * vocabSize) }),
    screened: 0,
    fellBack: 0,
  };
}

/** Puts what row n's fold found into the answer. */
function write(answer: HeadAnswer, n: number, fold: Fold): void {
  const { logSumExp, entropy } = sumFold(fold);
  if (answer.logSumExp) answer.logSumExp[n] = logSumExp;
  if (answer.entropy) answer.entropy[n] = entropy;
  for (const [i, { id, logit }] of fold.top.entries()) {
    if (answer.topIds) answer.topIds[n * fold.top.length + i] = id;
    if (answer.topLogits) answer.topLogits[n * fold.top.length + i] = logit;
  }
  answer.targetRanks?.set(
    fold.larger.map((count) => count + 1),
    n * fold.larger.length,
  );
  if (answer.sampleIds && answer.sampleLogits) {
    const { id, logit } = sampleFold(fold);
    answer.sampleIds[n] = id;
    answer.sampleLogits[n] = logit;
  }
}
