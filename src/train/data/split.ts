import { checkFields, InputError } from "../../errors.js";
import type { IdSource } from "./ids.js";
import { uniform } from "./random.js";

/** Positions [start, end) of a source. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface SplitOptions {
  /** Share of the documents, or of a single document's ids, that validates, in (0, 1). Default 0.1. */
  readonly validation?: number;
  /** Chooses the documents; a whole number in [0, 2^53). Default 0. */
  readonly seed?: number;
  /**
   * A whole number in [0, 2^53) for each document; documents of the same number fall on the same side. `corpus.keys()`
   * gives documents of the same text the same one. Default: the document's index.
   */
  readonly keys?: ArrayLike<number>;
  /**
   * Ids of a single document between training and validation that neither gets, so that a passage that goes over the
   * border is not half known. Default 1024, or a hundredth of the document when that is less.
   */
  readonly gap?: number;
}

/** Two parts of a source without a common position, each as spans in rising order. */
export interface DataSplit {
  readonly training: readonly Span[];
  readonly validation: readonly Span[];
}

const STREAM = 0x51e17;

/**
 * Sets a part of a corpus aside for validation: whole documents, each chosen by a hash of the seed and its key, so
 * that documents added later move no earlier one (but for the few of a corpus too small to have both sides by chance);
 * at least one on each side. Of a single document its end, after a gap.
 * @throws InputError for options out of range, a single document too short for two parts and the gap, or several that
 *   all have the same key
 */
export function splitIds(source: IdSource, options: SplitOptions = {}): DataSplit {
  checkFields("splitIds", options, ["validation", "seed", "keys", "gap"]);
  const { validation = 0.1, seed = 0 } = options;
  const { gap = Math.min(1024, Math.floor(source.length / 100)) } = options;
  if (!(validation > 0 && validation < 1))
    throw new InputError(`splitIds: validation: expected a share in (0, 1), got ${validation}`);
  if (!(Number.isSafeInteger(seed) && seed >= 0))
    throw new InputError(`splitIds: seed: expected a whole number in [0, 2^53), got ${seed}`);
  if (!(Number.isSafeInteger(gap) && gap >= 0))
    throw new InputError(`splitIds: gap: expected a whole number from 0, got ${gap}`);
  const { name, documents } = source;
  const count = documents.length - 1;
  const { keys = Float64Array.from({ length: count }, (_, i) => i) } = options;
  if (keys.length !== count)
    throw new InputError(`splitIds: keys: ${name} has ${count} documents, but got ${keys.length}`);
  if (count === 1) return splitOne(source, validation, gap);
  const spans: { training: Span[]; validation: Span[] } = { training: [], validation: [] };
  for (const [i, held] of heldDocuments(name, keys, validation, seed).entries())
    append(spans[held ? "validation" : "training"], documents[i], documents[i + 1]);
  return spans;
}

/**
 * Which of two or more documents `splitIds` sets aside.
 * @throws InputError for keys that are out of range or all the same
 */
export function heldDocuments(
  name: string,
  keys: ArrayLike<number>,
  validation: number,
  seed: number,
): boolean[] {
  const draws = Float64Array.from(keys, (key) => {
    if (Number.isSafeInteger(key) && key >= 0) return uniform(seed, STREAM, key);
    throw new InputError(`splitIds: keys: expected whole numbers in [0, 2^53), got ${key}`);
  });
  // The extremes are there for corpora so small that the draws all fall on one side.
  const least = draws.reduce((a, b) => Math.min(a, b));
  const most = draws.reduce((a, b) => Math.max(a, b));
  if (least === most)
    throw new InputError(
      `${name}: its ${keys.length} documents all have the same text: nothing can be kept from training, to validate`,
    );
  return Array.from(draws, (draw) => draw === least || (draw !== most && draw < validation));
}

/** Spans that touch become one. */
function append(spans: Span[], start: number, end: number): void {
  const last = spans.at(-1);
  if (last?.end === start) spans[spans.length - 1] = { start: last.start, end };
  else spans.push({ start, end });
}

function splitOne({ name, length }: IdSource, validation: number, gap: number): DataSplit {
  const held = Math.ceil(length * validation);
  const end = length - held - gap;
  if (end < 1)
    throw new InputError(
      `${name}: a document of ${length} ids has no room for ${held} to validate and a gap of ${gap}; give more text, or a smaller validation or gap`,
    );
  return { training: [{ start: 0, end }], validation: [{ start: length - held, end: length }] };
}
