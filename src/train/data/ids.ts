import { InputError } from "../../errors.js";

/**
 * The ids of a corpus, one document after the other, read by position. With an end-of-text id each document ends in
 * it.
 */
export interface IdSource {
  /** For messages. */
  readonly name: string;
  /** Number of ids. */
  readonly length: number;
  /** Where each document begins, rising from 0; one more at the end: `length`. */
  readonly documents: Float64Array;
  /** The id that ends each document; undefined when nothing does. */
  readonly endOfText: number | undefined;
  /** The ids of positions [start, end). @throws InputError when they are not in [0, length) */
  read(start: number, end: number): Promise<Int32Array>;
}

/**
 * Ids in memory as a source.
 * @param documents ids of each document, without the end-of-text id, which is put after each when given; documents
 *   without ids are left out
 * @throws InputError when there is no id, or one is no whole number in [0, 2³¹)
 */
export function memoryIds(
  name: string,
  documents: Iterable<ArrayLike<number>>,
  { endOfText }: { readonly endOfText?: number } = {},
): IdSource {
  const ids: number[] = [];
  const offsets = [0];
  const add = (id: number) => {
    if (!(Number.isInteger(id) && id >= 0 && id < 2 ** 31))
      throw new InputError(`${name}: expected ids from 0 to 2^31 - 1, got ${id} at position ${ids.length}`);
    ids.push(id);
  };
  for (const document of documents) {
    if (document.length === 0) continue;
    for (let i = 0; i < document.length; i++) add(document[i]);
    if (endOfText !== undefined) add(endOfText);
    offsets.push(ids.length);
  }
  if (ids.length === 0) throw new InputError(`${name}: the corpus has no tokens; give at least one document`);
  const all = Int32Array.from(ids);
  return {
    name,
    length: all.length,
    documents: Float64Array.from(offsets),
    endOfText,
    async read(start, end) {
      checkPositions(name, all.length, start, end);
      return all.slice(start, end);
    },
  };
}

/** @throws InputError when [start, end) does not lie in [0, length) */
export function checkPositions(name: string, length: number, start: number, end: number): void {
  if (
    !(Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end && end <= length)
  )
    throw new InputError(`${name}: expected positions within [0, ${length}), got ${start} to ${end}`);
}

/** The first index whose value is at least `x`, in a rising array. */
export function lowerBound(rising: Float64Array, x: number): number {
  let [low, high] = [0, rising.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (rising[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}
