import { InputError } from "../errors.js";

/** What a stop detector lets through, and whether a stop string has been met. */
export interface Passed {
  readonly text: string;
  readonly stopped: boolean;
}

/**
 * Watches streamed text for stop strings. Text that may be the beginning of one is held back until it is clear; the
 * stop string itself and what follows are never let through. The earliest match ends the text; of matches that begin
 * at one place any will do, as the text before them is the same.
 */
export class StopDetector {
  private held = "";
  private done = false;
  private readonly stops: readonly string[];
  private readonly longest: number;

  /** @throws InputError for an empty stop string, which would end any text before its beginning */
  constructor(stops: readonly string[]) {
    for (const stop of stops)
      if (typeof stop !== "string" || stop === "")
        throw new InputError(
          `stop strings: expected text of at least one character, got ${JSON.stringify(stop)}`,
        );
    this.stops = stops;
    this.longest = Math.max(0, ...stops.map((stop) => stop.length));
  }

  /** Takes more text; gives what is certain not to belong to a stop string. */
  push(text: string): Passed {
    if (this.done) return { text: "", stopped: true };
    this.held += text;
    let first = -1;
    for (const stop of this.stops) {
      const at = this.held.indexOf(stop);
      if (at >= 0 && (first < 0 || at < first)) first = at;
    }
    if (first >= 0 && !this.beginsBefore(first)) {
      this.done = true;
      const passed = this.held.slice(0, first);
      this.held = "";
      return { text: passed, stopped: true };
    }
    const keep = this.openFrom();
    const passed = this.held.slice(0, keep);
    this.held = this.held.slice(keep);
    return { text: passed, stopped: false };
  }

  /** The stream has ended: what was held back, up to a stop string that was only waiting for a longer one. */
  end(): Passed {
    if (this.done) return { text: "", stopped: true };
    this.done = true;
    const first = Math.min(...this.stops.map((stop) => this.held.indexOf(stop)).filter((at) => at >= 0));
    return first === Infinity
      ? { text: this.held, stopped: false }
      : { text: this.held.slice(0, first), stopped: true };
  }

  /** Whether a longer stop string, begun before `at`, may still be completed. */
  private beginsBefore(at: number): boolean {
    return this.openFrom() < at;
  }

  /** First index from which the held text may grow into a stop string; its length when there is none. */
  private openFrom(): number {
    for (let i = Math.max(0, this.held.length - this.longest + 1); i < this.held.length; i++) {
      const tail = this.held.slice(i);
      if (this.stops.some((stop) => stop.length > tail.length && stop.startsWith(tail))) return i;
    }
    return this.held.length;
  }
}
