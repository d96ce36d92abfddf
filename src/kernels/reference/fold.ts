import { InputError } from "../../errors.js";
import { gumbel } from "./gumbel.js";

/** Ids of one shard of a vocabulary. Part of the contract: sums are taken shard by shard, so it decides their bits. */
export const SHARD = 1024;

/** What is kept of one row's logits. */
export interface FoldQuery {
  /** Names the row in errors: "row 3". */
  readonly what: string;
  /** How many of the largest logits are kept. */
  readonly topK: number;
  /** Logits whose ranks are counted. */
  readonly targets: Float32Array;
  /** Temperature (a float32 above 0) and the row's `gumbelKey`; absent: no sample. */
  readonly sample?: { readonly temperature: number; readonly key: readonly [number, number] };
}

/** One shard's largest logit, Σ exp(x - max), and Σ exp(x - max) · (x - max). */
export interface ShardSum {
  readonly shard: number;
  readonly max: number;
  readonly sum: number;
  readonly weighted: number;
}

/** An id, its logit, and (for samples) what it won with. */
export interface Candidate {
  readonly id: number;
  readonly logit: number;
  readonly value: number;
}

/**
 * All that answers need of the logits seen so far. Shards' sums stay apart, in index order, until `sumFold` joins them:
 * so folds of disjoint shards may be merged in any grouping and any order, and give the same bits.
 */
export interface Fold {
  readonly query: FoldQuery;
  readonly shards: readonly ShardSum[];
  /** At most `topK`; largest logit first, equal logits by lower id. */
  readonly top: readonly Candidate[];
  /** For each target, how many logits are strictly larger. */
  readonly larger: Int32Array;
  /** The largest logit / temperature + noise; equal values: the lower id. */
  readonly best?: Candidate;
}

/** The fold of no logits. */
export function emptyFold(query: FoldQuery): Fold {
  return { query, shards: [], top: [], larger: new Int32Array(query.targets.length) };
}

/**
 * The fold with more logits in it.
 * @param logits of ids `firstId`, `firstId` + 1, …; -Infinity is a masked token
 * @param firstId a multiple of SHARD; only the vocabulary's last shard may be cut short
 * @throws InputError naming row and id for NaN or +Infinity
 */
export function foldLogits(fold: Fold, logits: Float32Array, firstId: number): Fold {
  if (firstId % SHARD !== 0)
    throw new RangeError(`logits begin at id ${firstId}, inside a shard of ${SHARD}`);
  for (let at = 0; at < logits.length; at += SHARD)
    fold = mergeFolds(fold, foldShard(fold.query, logits.subarray(at, at + SHARD), firstId + at));
  return fold;
}

/** The fold of what two folds of one query saw. @throws RangeError when both saw a shard */
export function mergeFolds(a: Fold, b: Fold): Fold {
  return {
    query: a.query,
    shards: merge(a.shards, b.shards, a.shards.length + b.shards.length, (x, y) => {
      if (x.shard === y.shard) throw new RangeError(`two folds hold shard ${x.shard}`);
      return x.shard - y.shard;
    }),
    top: merge(a.top, b.top, a.query.topK, byLogit),
    larger: a.larger.map((count, i) => count + b.larger[i]),
    best: better(a.best, b.best),
  };
}

/**
 * Joins the shards' sums in index order.
 * @returns natural logarithm of Σ exp(logit), and the entropy of the softmax in nats (0 · log 0 = 0)
 * @throws InputError naming the row when every logit is -Infinity: it has no distribution
 */
export function sumFold(fold: Fold): { logSumExp: number; entropy: number } {
  const max = fold.shards.reduce((largest, shard) => Math.max(largest, shard.max), -Infinity);
  if (max === -Infinity)
    throw new InputError(`${fold.query.what}: every logit is -Infinity; no token is left`);
  let sum = 0;
  let weighted = 0;
  for (const shard of fold.shards) {
    const shift = shard.max - max;
    const factor = Math.exp(shift);
    if (factor === 0) continue; // shift may be -Infinity, and 0 · -Infinity is no number
    sum += factor * shard.sum;
    weighted += factor * (shard.weighted + shift * shard.sum);
  }
  return { logSumExp: max + Math.log(sum), entropy: Math.max(0, Math.log(sum) - weighted / sum) };
}

/** The sampled id and its logit. @throws InputError naming the row when temperature takes the logits out of float32 */
export function sampleFold(fold: Fold): Candidate {
  if (!fold.best || !Number.isFinite(fold.best.value))
    throw beyondFloat32(fold.query.what, fold.query.sample?.temperature);
  return fold.best;
}

/** What every device says where no sample can be told from another. */
export function beyondFloat32(what: string, temperature: number | undefined): InputError {
  return new InputError(
    `${what}: logits / temperature ${temperature} leave the range of float32; take a higher temperature`,
  );
}

/** The fold of one shard alone. */
function foldShard(query: FoldQuery, logits: Float32Array, firstId: number): Fold {
  let max = -Infinity;
  for (let i = 0; i < logits.length; i++) {
    if (!(logits[i] < Infinity))
      throw new InputError(`${query.what}: the logit of id ${firstId + i} is ${logits[i]}`);
    max = Math.max(max, logits[i]);
  }
  let sum = 0;
  let weighted = 0;
  for (let i = 0; i < logits.length; i++) {
    const e = logits[i] === -Infinity ? 0 : Math.exp(logits[i] - max);
    sum += e;
    if (e > 0) weighted += e * (logits[i] - max);
  }
  const larger = new Int32Array(query.targets.length);
  for (let t = 0; t < larger.length; t++)
    for (let i = 0; i < logits.length; i++) if (logits[i] > query.targets[t]) larger[t]++;
  return {
    query,
    shards: [{ shard: firstId / SHARD, max, sum, weighted }],
    top: topOf(logits, firstId, query.topK),
    larger,
    best: query.sample && noisiest(logits, firstId, query.sample),
  };
}

function topOf(logits: Float32Array, firstId: number, k: number): Candidate[] {
  if (k === 0) return [];
  const all = Array.from(logits, (logit, i) => ({ id: firstId + i, logit, value: logit }));
  return all.sort(byLogit).slice(0, k);
}

/** argmax of float32(logit / temperature) + noise, each step in float32; masked tokens never win. */
function noisiest(
  logits: Float32Array,
  firstId: number,
  { temperature, key }: NonNullable<FoldQuery["sample"]>,
): Candidate | undefined {
  let best: Candidate | undefined;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i];
    if (logit === -Infinity) continue;
    const id = firstId + i;
    const value = Math.fround(Math.fround(logit / temperature) + gumbel(key, id));
    if (!best || value > best.value) best = { id, logit, value };
  }
  return best;
}

function better(a: Candidate | undefined, b: Candidate | undefined): Candidate | undefined {
  if (!a || !b) return a ?? b;
  if (a.value === b.value) return a.id < b.id ? a : b;
  return a.value > b.value ? a : b;
}

/** -0 ties with 0, and -Infinity with itself (their difference is no number). */
function byLogit(a: Candidate, b: Candidate): number {
  return a.logit === b.logit ? a.id - b.id : b.logit - a.logit;
}

/** The first `most` of two ordered lists, in order. */
function merge<T>(
  a: readonly T[],
  b: readonly T[],
  most: number,
  order: (x: T, y: T) => number,
): readonly T[] {
  if (a.length === 0) return b.slice(0, most);
  if (b.length === 0) return a.slice(0, most);
  const out: T[] = [];
  for (let i = 0, j = 0; out.length < most && (i < a.length || j < b.length); )
    out.push(j >= b.length || (i < a.length && order(a[i], b[j]) <= 0) ? a[i++] : b[j++]);
  return out;
}
