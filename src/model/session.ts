import { InputError } from "../errors.js";
import type { KvCache } from "../kernels/device.js";
import type { Runner } from "./runner.js";
import type { CallOptions } from "./types.js";

/**
 * A growing sequence with its cache: feed ids, read the hidden state of the last one, go on. A fork shares the past
 * until one of the two goes its own way. `close` gives the cache's memory back.
 */
export class Session {
  /** Feeds that have not settled. */
  private feeding = 0;

  private constructor(
    private readonly runner: Runner,
    private readonly cache: KvCache,
    private readonly fed: number[],
  ) {}

  /** An empty sequence. */
  static start(runner: Runner): Session {
    return new Session(runner, runner.cache(), []);
  }

  /** Tokens fed so far. */
  get length(): number {
    return this.fed.length;
  }

  /** Positions left before the context's end. */
  get room(): number {
    return this.runner.maxPositions - this.length;
  }

  /** The ids fed so far, a copy. */
  get ids(): number[] {
    return [...this.fed];
  }

  /**
   * Appends ids and gives the hidden state of the last one, [D], after the final norm. A failed or aborted call leaves
   * the session as it was. Feeds that are made before earlier ones have settled wait for them, and append in order.
   * @throws InputError for no ids, an id outside the vocabulary, or more than `room`; AbortError
   */
  async feed(ids: readonly number[], options: CallOptions = {}): Promise<Float32Array> {
    const own = [...ids];
    this.feeding++;
    try {
      const [{ hidden }] = await this.runner.run([{ cache: this.cache, ids: own }], {
        signal: options.signal,
      });
      for (const id of own) this.fed.push(id);
      return hidden;
    } finally {
      this.feeding--;
    }
  }

  /** A second sequence with the same past; of a feed that is under way it has nothing. */
  fork(): Session {
    const cache = this.cache.fork();
    cache.truncate(this.length);
    return new Session(this.runner, cache, [...this.fed]);
  }

  /** Forgets what follows the first `length` tokens. @throws InputError while a feed is under way */
  truncate(length: number): void {
    if (this.feeding > 0)
      throw new InputError("truncate: a feed of this session is under way: await it before you cut");
    this.cache.truncate(length);
    this.fed.length = length;
  }

  close(): void {
    this.cache.free();
  }
}
