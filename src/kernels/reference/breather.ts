import { throwIfAborted } from "../../errors.js";

/** Milliseconds of work between two looks at the event loop: an abort must be seen within 50. */
const SLICE = 15;

/** Products that take a few milliseconds at most: the largest piece of work between two pauses. */
export const PIECE = 1 << 21;

/** Lets a long computation stand aside now and then, so that timers run and an abort is seen. */
export class Breather {
  private last = performance.now();
  private readonly signal: AbortSignal | undefined;
  private readonly check: () => void;

  /** @param check throws when the work has become pointless for another reason than the signal */
  constructor(signal?: AbortSignal, check: () => void = () => {}) {
    this.signal = signal;
    this.check = check;
    this.stopIfPointless();
  }

  /** Throws AbortError when the signal has fired. */
  stopIfPointless(): void {
    throwIfAborted(this.signal);
    this.check();
  }

  /** Yields to the event loop when the slice is used up; otherwise goes on at once. @throws AbortError */
  async pause(): Promise<void> {
    if (performance.now() - this.last < SLICE) return;
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.stopIfPointless();
    this.last = performance.now();
  }

  /** Calls `work(first, end)` for pieces of [0, count), each of about PIECE / `cost` items, and pauses in between. */
  async pieces(count: number, cost: number, work: (first: number, end: number) => void): Promise<void> {
    const step = Math.max(1, Math.floor(PIECE / cost));
    for (let first = 0; first < count; first += step) {
      work(first, Math.min(count, first + step));
      await this.pause();
    }
  }
}
