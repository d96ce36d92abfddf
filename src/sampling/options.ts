import { InputError } from "../errors.js";
import {
  applyTemperature,
  filterMinP,
  filterTopK,
  filterTopP,
  penalizeRepetition,
  suppress,
} from "./processors.js";

/**
 * How a token is chosen. The order is Hugging Face's: penalty, suppressed ids, temperature, top-k, top-p, min-p, then
 * the sample.
 */
export interface SamplingOptions {
  /**
   * The likeliest token (after the penalty, of those not suppressed); filters and temperature then change nothing.
   * Default false.
   */
  readonly greedy?: boolean;
  /** From 1e-6 (below that ask for greedy) to 1e30; default 1. */
  readonly temperature?: number;
  /** Keep the k likeliest, and what equals the k-th; a whole number, 0 = off. Default 0. */
  readonly topK?: number;
  /** Keep the smallest set that holds this mass, in (0, 1]; 1 = off. Default 1. */
  readonly topP?: number;
  /** Remove what is less likely than this share of the likeliest, in [0, 1]; 0 = off. Default 0. */
  readonly minP?: number;
  /** Above 0; 1 = off. Prompt and output count. Default 1. */
  readonly repetitionPenalty?: number;
  /**
   * Ids of the vocabulary that are never chosen; at least one other must be left. Default none. (Hugging Face's
   * `suppress_tokens`.)
   */
  readonly suppressTokens?: readonly number[];
  /** A whole number in [0, 2^53); default 0. */
  readonly seed?: number;
}

/** Every option, with its default filled in. */
export interface Sampling extends Required<Omit<SamplingOptions, "suppressTokens">> {
  readonly suppressTokens: ReadonlySet<number>;
}

/** Names of the options, for checks of unknown fields. */
export const SAMPLING_FIELDS = [
  "greedy",
  "temperature",
  "topK",
  "topP",
  "minP",
  "repetitionPenalty",
  "suppressTokens",
  "seed",
] as const;

/** Fills in defaults. @throws InputError for a value out of its range */
export function samplingOf(options: SamplingOptions): Sampling {
  const {
    greedy = false,
    temperature = 1,
    topK = 0,
    topP = 1,
    minP = 0,
    repetitionPenalty = 1,
    suppressTokens = [],
    seed = 0,
  } = options;
  const must = (ok: boolean, name: string, range: string, got: unknown) => {
    if (!ok) throw new InputError(`${name}: expected ${range}, got ${JSON.stringify(got) ?? got}`);
  };
  must(typeof greedy === "boolean", "greedy", "true or false", greedy);
  must(
    temperature >= 1e-6 && temperature <= 1e30,
    "temperature",
    temperature > 0
      ? "a number from 1e-6 to 1e30"
      : "a number above 0 (for the likeliest token ask for greedy)",
    temperature,
  );
  must(Number.isSafeInteger(topK) && topK >= 0, "topK", "a whole number from 0 (off)", topK);
  must(topP > 0 && topP <= 1, "topP", "a number in (0, 1]", topP);
  must(minP >= 0 && minP <= 1, "minP", "a number in [0, 1]", minP);
  must(
    Number.isFinite(repetitionPenalty) && repetitionPenalty > 0,
    "repetitionPenalty",
    "a number above 0",
    repetitionPenalty,
  );
  must(
    Array.isArray(suppressTokens) && suppressTokens.every((id) => Number.isInteger(id) && id >= 0),
    "suppressTokens",
    "a list of ids, whole numbers from 0",
    suppressTokens,
  );
  must(Number.isSafeInteger(seed) && seed >= 0, "seed", "a whole number in [0, 2^53)", seed);
  const filters = { greedy, temperature, topK, topP, minP, repetitionPenalty };
  return { ...filters, suppressTokens: new Set(suppressTokens), seed };
}

/**
 * Checks suppressed ids against a vocabulary, which `samplingOf` does not know.
 * @param what where they were given, for messages
 * @throws InputError for an id outside the vocabulary, or when all of it is suppressed
 */
export function checkSuppressed(
  { suppressTokens }: Sampling,
  vocabSize: number,
  what = "suppressTokens",
): void {
  for (const id of suppressTokens)
    if (id >= vocabSize)
      throw new InputError(
        `${what}: expected ids from 0 to ${vocabSize - 1}, the model's vocabulary, got ${id}`,
      );
  if (suppressTokens.size === vocabSize)
    throw new InputError(
      `${what}: all ${vocabSize} ids of the vocabulary are suppressed: leave at least one to choose`,
    );
}

/** The whole chain on a row of logits, in place; -Infinity marks a removed token. `context`: prompt and output ids. */
export function processLogits(logits: Float32Array, sampling: Sampling, context: Iterable<number>): void {
  if (sampling.repetitionPenalty !== 1) penalizeRepetition(logits, context, sampling.repetitionPenalty);
  suppress(logits, sampling.suppressTokens);
  if (sampling.greedy) return;
  applyTemperature(logits, sampling.temperature);
  filter(logits, sampling);
}

/** Top-k, top-p and min-p, in place. */
export function filter(logits: Float32Array, { topK, topP, minP }: Sampling): void {
  if (topK > 0) filterTopK(logits, topK);
  filterTopP(logits, topP);
  filterMinP(logits, minP);
}
