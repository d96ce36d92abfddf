import { checkFields, InputError } from "../errors.js";
import type { HeadAnswer, HeadQuery } from "../kernels/device.js";

/** Options of anything that takes long. */
export interface CallOptions {
  /** When it fires the call rejects with `AbortError`. */
  readonly signal?: AbortSignal;
}

/** Ids: one list for every row, or a list a row (all of one length). */
export type Ids = readonly number[] | readonly (readonly number[])[];

/** What a head can be asked, alone or together in one pass. Every number is raw: the model's own. */
export interface Ask {
  /** The k largest logits of each row, largest first; equal logits: the lower id first. 1 to vocabSize. */
  readonly topK?: number;
  /** Log-probabilities (nats) of these ids. */
  readonly logProbs?: Ids;
  /** ln Σ exp(logit). */
  readonly logSumExp?: true;
  /** −Σ p ln p, in nats. */
  readonly entropy?: true;
  /** Ranks of these ids: 1 + the number of strictly larger logits. */
  readonly rank?: Ids;
  /** One id a row from softmax(logits / temperature). */
  readonly sample?: AskSample;
  /** All logits, [N, V]: the only ask that allocates them. */
  readonly logits?: true;
}

export interface AskSample {
  /** Above 0; default 1. One so small that logits / temperature leave float32's range is an error of the ask. */
  readonly temperature?: number;
  /** A whole number in [0, 2^53). */
  readonly seed: number;
  /** Which sequence each row belongs to, a whole number in [0, 2^31); default 0 for all. */
  readonly sequences?: readonly number[];
  /** Which step of its sequence each row is, a whole number in [0, 2^31); default: the row's index. */
  readonly steps?: readonly number[];
}

/** One row's k best. */
export interface Top {
  readonly ids: Int32Array;
  readonly logits: Float32Array;
  /** Log-probabilities; there when `logSumExp` or `logProbs` was asked together with `topK`. */
  readonly logProbs?: Float64Array;
}

interface Answers<A = Ask> {
  topK: A extends { readonly logSumExp: true } | { readonly logProbs: Ids }
    ? (Top & { readonly logProbs: Float64Array })[]
    : Top[];
  logProbs: Float64Array[];
  logSumExp: Float64Array;
  entropy: Float64Array;
  rank: Int32Array[];
  sample: { ids: Int32Array; logits: Float32Array };
  logits: Float32Array;
}

/** Fields that an ask of this type holds for certain. */
type Asked<A extends Ask> = {
  [K in keyof A & keyof Answers]-?: undefined extends A[K] ? never : K;
}[keyof A & keyof Answers];

/**
 * The answer to an ask: just what was asked, and perhaps undefined where the ask's type says that it may not have been.
 * Lists have one entry a row.
 */
export type Answer<A extends Ask> = { readonly [K in Asked<A>]: Answers<A>[K] } & {
  readonly [K in Exclude<keyof A & keyof Answers, Asked<A>>]?: Answers<A>[K];
};

const FIELDS = ["topK", "logProbs", "logSumExp", "entropy", "rank", "sample", "logits"] as const;

/**
 * An ask about N rows as a device takes it.
 * @throws InputError for an unknown field, or a value out of its range
 */
export function toQuery(ask: Ask, N: number, vocabSize: number): HeadQuery {
  checkFields("ask", ask, FIELDS);
  if (FIELDS.every((field) => ask[field] === undefined))
    throw new InputError(`ask: nothing was asked; ask for one or more of ${FIELDS.join(", ")}`);
  for (const field of ["logSumExp", "entropy", "logits"] as const)
    if (ask[field] !== undefined && ask[field] !== true)
      throw new InputError(
        `ask: ${field}: expected true, got ${JSON.stringify(ask[field])}; leave it out for no`,
      );
  const { topK } = ask;
  if (topK !== undefined && !(Number.isInteger(topK) && topK >= 1 && topK <= vocabSize))
    throw new InputError(
      `ask: topK: expected a whole number from 1 to ${vocabSize} (the vocabulary), got ${topK}`,
    );
  const perRow = rowsOf("logProbs", ask.logProbs, N, vocabSize);
  const ranked = rowsOf("rank", ask.rank, N, vocabSize);
  const width = (perRow?.[0]?.length ?? 0) + (ranked?.[0]?.length ?? 0);
  const ids = new Int32Array(N * width);
  for (let n = 0; n < N; n++) ids.set([...(perRow?.[n] ?? []), ...(ranked?.[n] ?? [])], n * width);
  return {
    topK: topK ?? 0,
    targets: width > 0 ? { ids, perRow: width } : undefined,
    rank: (ranked?.[0]?.length ?? 0) > 0,
    logSumExp: ask.logSumExp === true || perRow !== undefined,
    entropy: ask.entropy === true,
    sample: ask.sample && sampleQuery(ask.sample, N),
    logits: ask.logits === true,
  };
}

function rowsOf(what: string, ids: Ids | undefined, N: number, V: number): (readonly number[])[] | undefined {
  if (ids === undefined) return undefined;
  if (!Array.isArray(ids) && !ArrayBuffer.isView(ids))
    throw new InputError(`ask: ${what}: expected ids in a list, got ${JSON.stringify(ids)}`);
  const nested = ids.length > 0 && Array.isArray(ids[0]);
  const rows = nested
    ? (ids as readonly (readonly number[])[])
    : Array.from({ length: N }, () => ids as readonly number[]);
  if (rows.length !== N)
    throw new InputError(
      `ask: ${what}: expected a list of ids for each of ${N} rows, got ${rows.length} lists`,
    );
  for (const row of rows) {
    if (row.length !== rows[0].length)
      throw new InputError(
        `ask: ${what}: rows need lists of one length, got ${rows[0].length} and ${row.length}`,
      );
    for (const id of row)
      if (!(Number.isInteger(id) && id >= 0 && id < V))
        throw new InputError(`ask: ${what}: id ${id} is outside the vocabulary [0, ${V})`);
  }
  return [...rows];
}

/** A sample's options for N rows, every default filled in. @throws InputError for one out of its range */
export function sampleQuery(sample: AskSample, N: number): NonNullable<HeadQuery["sample"]> {
  if (typeof sample !== "object" || sample === null)
    throw new InputError(`ask: sample: expected { seed, … }, got ${JSON.stringify(sample)}`);
  checkFields("ask: sample", sample, ["temperature", "seed", "sequences", "steps"]);
  const { temperature = 1, seed, sequences, steps } = sample;
  // Devices divide by it in float32, where it must still be a number above 0.
  if (!(Math.fround(temperature) > 0 && Math.fround(temperature) < Infinity))
    throw new InputError(`ask: sample.temperature: expected a number above 0, got ${temperature}`);
  if (!(Number.isSafeInteger(seed) && seed >= 0))
    throw new InputError(`ask: sample.seed: expected a whole number in [0, 2^53), got ${seed}`);
  for (const [name, list] of [
    ["sequences", sequences],
    ["steps", steps],
  ] as const) {
    if (list && list.length !== N)
      throw new InputError(`ask: sample.${name}: expected ${N} numbers, one a row, got ${list.length}`);
    for (const x of list ?? [])
      if (!(Number.isInteger(x) && x >= 0 && x < 2 ** 31))
        throw new InputError(`ask: sample.${name}: expected whole numbers in [0, 2^31), got ${x}`);
  }
  return {
    temperature,
    seed,
    sequences: Int32Array.from(sequences ?? new Array<number>(N).fill(0)),
    steps: Int32Array.from(steps ?? Array.from({ length: N }, (_, n) => n)),
  };
}

/** A device's answer in the shape of the ask. */
export function toAnswer<A extends Ask>(ask: A, N: number, vocabSize: number, raw: HeadAnswer): Answer<A> {
  const out: Partial<Answers> = {};
  const { topK: k = 0 } = ask;
  const row = <T extends Int32Array | Float32Array>(data: T | undefined, n: number, width: number): T =>
    (data?.slice(n * width, (n + 1) * width) ?? new Int32Array(0)) as T;
  const rows = Array.from({ length: N }, (_, n) => n);
  const lse = raw.logSumExp;
  if (k > 0)
    out.topK = rows.map((n) => {
      const logits = row(raw.topLogits, n, k);
      return {
        ids: row(raw.topIds, n, k),
        logits,
        ...(lse && { logProbs: Float64Array.from(logits, (x) => x - lse[n]) }),
      };
    });
  const width = raw.targetLogits ? raw.targetLogits.length / Math.max(1, N) : 0;
  const first = ask.logProbs === undefined ? 0 : width - rankWidth(ask.rank);
  if (ask.logProbs !== undefined && lse)
    out.logProbs = rows.map((n) =>
      Float64Array.from(row(raw.targetLogits, n, width).subarray(0, first), (x) => x - lse[n]),
    );
  if (ask.rank !== undefined) out.rank = rows.map((n) => row(raw.targetRanks, n, width).slice(first));
  if (ask.logSumExp && lse) out.logSumExp = lse;
  if (ask.entropy && raw.entropy) out.entropy = raw.entropy;
  if (ask.sample && raw.sampleIds && raw.sampleLogits)
    out.sample = { ids: raw.sampleIds, logits: raw.sampleLogits };
  if (ask.logits) out.logits = raw.logits ?? new Float32Array(N * vocabSize);
  return out as unknown as Answer<A>;
}

function rankWidth(ids: Ids | undefined): number {
  if (ids === undefined || ids.length === 0) return 0;
  const [first] = ids;
  return typeof first === "number" ? ids.length : first.length;
}
