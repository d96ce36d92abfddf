import type { KvCache } from "../kernels/device.js";
import type { Runner } from "./runner.js";
import type { CallOptions } from "./types.js";

/**
 * A growing sequence with its cache: feed ids, read the hidden state of the last one, go on. A fork shares the past
 * until one of the two goes its own way. `close` gives the cache's memory back.
 */
export class Session {
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
    return this.cache.length;
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
   * the session as it was.
   * @throws InputError for no ids, an id outside the vocabulary, or more than `room`
   */
  async feed(ids: readonly number[], options: CallOptions = {}): Promise<Float32Array> {
    const [{ hidden }] = await this.runner.run([{ cache: this.cache, ids }], { signal: options.signal });
    for (const id of ids) this.fed.push(id);
    return hidden;
  }

  /** A second sequence with the same past. */
  fork(): Session {
    return new Session(this.runner, this.cache.fork(), [...this.fed]);
  }

  /** Forgets what follows the first `length` tokens. */
  truncate(length: number): void {
    this.cache.truncate(length);
    this.fed.length = length;
  }

  close(): void {
    this.cache.free();
  }
}
