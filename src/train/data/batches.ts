import { checkFields, InputError } from "../../errors.js";
import type { IdSource } from "./ids.js";
import { Packing } from "./packing.js";
import { permutation } from "./random.js";
import type { Span } from "./split.js";

/** The target of a row that predicts nothing (PyTorch's `ignore_index`). */
export const IGNORE = -100;

export interface BatchOptions {
  /** Positions T of a sequence, from 1. */
  readonly length: number;
  /** Sequences of a batch, from 1. */
  readonly size: number;
  /** Parts of the source to read; default all of it. `splitIds` gives those of training and of validation. */
  readonly spans?: readonly Span[];
  /** Order of the sequences in each epoch; a whole number in [0, 2^53). Default 0. */
  readonly seed?: number;
  /**
   * "separate": each document in a sequence is a segment of its own, to which attention keeps. "joined": a sequence is
   * one segment, whatever documents are in it. Default "separate".
   */
  readonly documents?: "separate" | "joined";
}

/** Sequences of T positions, one after the other: N = size · T rows. */
export interface Batch {
  /** [N] the tokens that are read. */
  readonly ids: Int32Array;
  /** [N] the token after each, to be predicted; `IGNORE` where there is none, or it is predicted elsewhere. */
  readonly targets: Int32Array;
  /** Rows of each segment, in order; their sum is N, and each sequence begins with a segment. */
  readonly segments: Int32Array;
  /** Sequences. */
  readonly size: number;
  /** Rows whose target is not `IGNORE`. */
  readonly predicted: number;
}

/**
 * Training sequences of a corpus. Its documents are packed one after the other and cut every T positions. Each token is
 * predicted exactly once an epoch; but for the first of each document ("joined": of the corpus) when the source has no
 * end-of-text id. With one, the id that ends a document is also what the next one begins after, so that its first token
 * is predicted from it, as when a model generates from nothing. What the last sequence lacks it takes again from before,
 * without predicting it again.
 *
 * An epoch's order is a permutation drawn by seed and epoch, and batch `step` is a function of its number alone: to
 * go on after a pause no state is needed but the step. Batches go over epochs' ends, so that none is short.
 */
export class Batches {
  /** Sequences of an epoch. */
  readonly sequences: number;
  /** Tokens that an epoch predicts. */
  readonly predicted: number;
  private readonly packing: Packing;
  /** Whether a document's last token predicts nothing. */
  private readonly ignoresBorders: boolean;
  private readonly options: Required<Omit<BatchOptions, "spans">>;
  /** The two epochs used last, as a batch may touch both. */
  private readonly orders = new Map<number, Uint32Array>();

  /**
   * @throws InputError for options out of range, spans outside the source, a sequence longer than the corpus, or fewer
   *   sequences than a batch has
   */
  constructor(source: IdSource, options: BatchOptions) {
    checkFields("Batches", options, ["length", "size", "spans", "seed", "documents"]);
    const { length, size, spans, seed = 0, documents = "separate" } = options;
    const must = (ok: boolean, name: string, expected: string, got: unknown) => {
      if (!ok)
        throw new InputError(`Batches: ${name}: expected ${expected}, got ${JSON.stringify(got) ?? got}`);
    };
    must(Number.isSafeInteger(length) && length >= 1, "length", "a whole number from 1", length);
    must(Number.isSafeInteger(size) && size >= 1, "size", "a whole number from 1", size);
    must(Number.isSafeInteger(seed) && seed >= 0, "seed", "a whole number in [0, 2^53)", seed);
    must(
      documents === "separate" || documents === "joined",
      "documents",
      '"separate" or "joined"',
      documents,
    );
    this.options = { length, size, seed, documents };
    this.packing = new Packing(source, spans ?? [{ start: 0, end: source.length }]);
    // The end of text may be predicted and then begin the next document; without it nothing stands between the two.
    this.ignoresBorders = documents === "separate" && source.endOfText === undefined;
    const rows = this.packing.length - 1;
    if (rows < length)
      throw new InputError(
        `${source.name}: sequences of ${length} positions need ${length + 1} tokens, but there are ${this.packing.length}; give more text, or a shorter length`,
      );
    this.sequences = Math.ceil(rows / length);
    if (this.sequences < size)
      throw new InputError(
        `${source.name}: ${this.packing.length} tokens make ${this.sequences} sequences of ${length} positions, but a batch has ${size}; give more text, or a smaller size or length`,
      );
    this.predicted = rows - (this.ignoresBorders ? this.packing.beginnings(1, rows + 1).length : 0);
  }

  /** Batch `step`, from 0, of the endless row of shuffled epochs. @throws InputError for no step */
  async batch(step: number): Promise<Batch> {
    const { size } = this.options;
    if (!(Number.isSafeInteger(step) && step >= 0 && Number.isSafeInteger((step + 1) * size)))
      throw new InputError(`Batches: step: expected a whole number from 0, got ${step}`);
    const chosen: number[] = [];
    for (let i = step * size; i < (step + 1) * size; i++)
      chosen.push(this.order(Math.floor(i / this.sequences))[i % this.sequences]);
    return this.gather(chosen);
  }

  /** Epochs that the batches before `step` are: 1.5 is the middle of the second. */
  epochAt(step: number): number {
    return (step * this.options.size) / this.sequences;
  }

  /**
   * Every sequence once, in the corpus's order, as validation needs it; the last batch may have fewer than `size`.
   * @param batches at most so many, of sequences spread evenly over the corpus; default: all
   */
  async *inOrder(batches = Infinity): AsyncGenerator<Batch> {
    const { size } = this.options;
    const wanted = Math.min(this.sequences, batches * size);
    for (let first = 0; first < wanted; first += size) {
      const count = Math.min(size, wanted - first);
      const place = (_: unknown, i: number) => Math.floor(((first + i) * this.sequences) / wanted);
      yield await this.gather(Array.from({ length: count }, place));
    }
  }

  private order(epoch: number): Uint32Array {
    let order = this.orders.get(epoch);
    if (!order) {
      order = permutation(this.sequences, this.options.seed, epoch);
      for (const old of [...this.orders.keys()].slice(0, -1)) this.orders.delete(old);
      this.orders.set(epoch, order);
    }
    return order;
  }

  private async gather(sequences: readonly number[]): Promise<Batch> {
    const T = this.options.length;
    const ids = new Int32Array(sequences.length * T);
    const targets = new Int32Array(sequences.length * T);
    const segments: number[] = [];
    let predicted = 0;
    for (const [row, sequence] of sequences.entries()) {
      // The last sequence begins early enough to be full.
      const start = Math.min(sequence * T, this.packing.length - 1 - T);
      const tokens = await this.packing.read(start, start + T + 1);
      const begins = this.packing.beginnings(start + 1, start + T + 1).map((place) => place - start);
      const next = tokens.slice(1).fill(IGNORE, 0, sequence * T - start);
      if (this.ignoresBorders) for (const place of begins) next[place - 1] = IGNORE;
      for (const target of next) if (target !== IGNORE) predicted++;
      ids.set(tokens.subarray(0, T), row * T);
      targets.set(next, row * T);
      segments.push(...this.segments(begins));
    }
    return { ids, targets, segments: Int32Array.from(segments), size: sequences.length, predicted };
  }

  /** Lengths of a sequence's segments, from the places in [1, T] at which documents begin. */
  private segments(begins: readonly number[]): number[] {
    const T = this.options.length;
    const borders = this.options.documents === "separate" ? begins.filter((place) => place < T) : [];
    return [...borders, T].map((place, i) => place - (i === 0 ? 0 : borders[i - 1]));
  }
}
