import type { BodySpec } from "../body/spec.js";
import { bodyBuffers, bodyProgram } from "../body/transformer.js";
import { InputError, throwIfAborted } from "../errors.js";
import type { Device, KvCache, Matrix } from "../kernels/device.js";
import type { Program } from "../kernels/op.js";
import { inTurn } from "../kernels/turn.js";
import type { Embedding } from "../vocab/embedding.js";

/** Rows of one call of the device: activations stay small however long a prompt is. */
export const ROWS_OF_A_CALL = 256;

/** New tokens of one sequence; they follow what its cache holds. */
export interface Feed {
  readonly cache: KvCache;
  readonly ids: readonly number[];
}

/** Options of `Runner.run`. */
export interface RunOptions {
  /** "all" rows of each sequence, or the "last" one only (default). */
  readonly rows?: "all" | "last";
  /** Layers to capture (all rows). */
  readonly layers?: readonly number[];
  readonly signal?: AbortSignal;
}

/** What `Runner.run` gives for one sequence. */
export interface Fed {
  /** [T, D], or [1, D] when only the last row was asked for. */
  readonly hidden: Float32Array;
  /** [T, D] each, by the layers asked for. */
  readonly layers: Map<number, Float32Array>;
}

/** Runs embedding and body: ids of any number of sequences, of any lengths, to hidden states. */
export class Runner {
  /** Ids in, `bodyBuffers.hidden` out: what generation, scoring and training run; no layer is captured. */
  readonly program: Program;
  /** The end of the last call of each cache. */
  private readonly turns = new WeakMap<KvCache, Promise<unknown>>();

  constructor(
    readonly device: Device,
    readonly body: BodySpec<Matrix>,
    readonly embedding: Embedding,
  ) {
    this.program = bodyProgram(body, { embed: embedding.op });
  }

  /** Length of a hidden state (D). */
  get dim(): number {
    return this.body.hiddenSize;
  }

  get maxPositions(): number {
    return this.body.maxPositions;
  }

  /** An empty cache for one sequence. */
  cache(): KvCache {
    return this.device.cache(this.program);
  }

  /**
   * Feeds sequences, packed without padding and cut into calls of `ROWS_OF_A_CALL` rows. On success each cache has
   * grown by its ids; on failure each is as it was. Calls of one cache follow each other whole, in the order in which
   * they were made.
   * @throws InputError for a sequence without ids, an id outside the vocabulary, or one that outgrows the context
   */
  run(feeds: readonly Feed[], options: RunOptions = {}): Promise<Fed[]> {
    const earlier = feeds.flatMap(({ cache }) => this.turns.get(cache) ?? []);
    // Without a wait it is on the device's queue now, before whatever its caller asks next.
    const call =
      earlier.length === 0
        ? this.runNow(feeds, options)
        : inTurn(Promise.all(earlier), options.signal, () => this.runNow(feeds, options));
    const turn = Promise.allSettled([...earlier, call]).then(() => {
      for (const { cache } of feeds) if (this.turns.get(cache) === turn) this.turns.delete(cache);
    });
    for (const { cache } of feeds) this.turns.set(cache, turn);
    return call;
  }

  private async runNow(feeds: readonly Feed[], options: RunOptions): Promise<Fed[]> {
    const { rows = "last", layers = [], signal } = options;
    for (const feed of feeds) this.check(feed);
    const D = this.dim;
    const program =
      layers.length > 0 ? bodyProgram(this.body, { embed: this.embedding.op, layers }) : this.program;
    const results = feeds.map(({ ids }) => ({
      hidden: new Float32Array((rows === "all" ? ids.length : 1) * D),
      layers: new Map(layers.map((layer) => [layer, new Float32Array(ids.length * D)])),
    }));
    const before = feeds.map(({ cache }) => cache.length);
    try {
      for (const parts of cut(feeds.map(({ ids }) => ids.length))) {
        throwIfAborted(signal);
        const wanted = hiddenRows(parts, feeds, rows);
        const outputs = [
          { buffer: bodyBuffers.hidden, rows: wanted },
          ...layers.map((layer) => ({ buffer: bodyBuffers.layer(layer) })),
        ];
        const ids = parts.flatMap(({ feed, first, count }) => feeds[feed].ids.slice(first, first + count));
        const segments = parts.map(({ feed, count }) => ({ cache: feeds[feed].cache, rows: count }));
        const [hidden, ...captured] = await this.device.run(program, {
          segments,
          ids: Int32Array.from(ids),
          outputs,
          signal,
        });
        place(parts, feeds, results, { hidden, captured, layers, rows, D });
      }
    } catch (error) {
      for (const [i, { cache }] of feeds.entries()) if (cache.length > before[i]) cache.truncate(before[i]);
      throw error;
    }
    return results;
  }

  private check({ cache, ids }: Feed): void {
    if (ids.length === 0) throw new InputError("no ids: expected at least one");
    this.embedding.vocab.checkIds(ids);
    const length = cache.length + ids.length;
    if (length > this.maxPositions)
      throw new InputError(
        `${length} tokens do not fit: the model's context holds ${this.maxPositions}; shorten the text`,
      );
  }
}

/** Rows [first, first + count) of a feed, as part of one call. */
interface Part {
  readonly feed: number;
  readonly first: number;
  readonly count: number;
}

/** Cuts sequences of these lengths, one after the other, into calls. */
function cut(lengths: readonly number[]): Part[][] {
  const calls: Part[][] = [];
  let room = 0;
  for (const [feed, length] of lengths.entries())
    for (let first = 0; first < length; ) {
      if (room === 0) {
        calls.push([]);
        room = ROWS_OF_A_CALL;
      }
      const count = Math.min(room, length - first);
      calls[calls.length - 1].push({ feed, first, count });
      first += count;
      room -= count;
    }
  return calls;
}

/** The rows of a call whose hidden states are wanted; undefined: all of them. */
function hiddenRows(
  parts: readonly Part[],
  feeds: readonly Feed[],
  rows: "all" | "last",
): Int32Array | undefined {
  if (rows === "all") return undefined;
  const wanted: number[] = [];
  let end = 0;
  for (const { feed, first, count } of parts) {
    end += count;
    if (first + count === feeds[feed].ids.length) wanted.push(end - 1);
  }
  return Int32Array.from(wanted);
}

/** Copies a call's outputs to where they belong in the results. */
function place(
  parts: readonly Part[],
  feeds: readonly Feed[],
  results: readonly Fed[],
  call: {
    readonly hidden: Float32Array;
    readonly captured: readonly Float32Array[];
    readonly layers: readonly number[];
    readonly rows: "all" | "last";
    readonly D: number;
  },
): void {
  const { hidden, captured, layers, rows, D } = call;
  let row = 0;
  let last = 0;
  for (const { feed, first, count } of parts) {
    const result = results[feed];
    if (rows === "all") result.hidden.set(hidden.subarray(row * D, (row + count) * D), first * D);
    else if (first + count === feeds[feed].ids.length) {
      result.hidden.set(hidden.subarray(last * D, (last + 1) * D));
      last++;
    }
    for (const [i, layer] of layers.entries())
      result.layers.get(layer)!.set(captured[i].subarray(row * D, (row + count) * D), first * D);
    row += count;
  }
}
