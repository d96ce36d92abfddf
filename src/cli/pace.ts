import { progressLine } from "../train/report/progress.js";

/** Steps over which the speed is averaged, by time. */
const WINDOW_MS = 20_000;

/** How fast a run goes, from the moments at which its steps end. */
export class Pace {
  private readonly marks: { readonly at: number; readonly tokens: number; readonly step: number }[] = [];
  private tokens = 0;

  /** @param now a clock in milliseconds */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** The progress line after a step that predicted `tokens` tokens. */
  line(step: number, steps: number, loss: number, tokens: number, columns: number): string {
    this.tokens += tokens;
    const at = this.now();
    this.marks.push({ at, tokens: this.tokens, step });
    while (this.marks.length > 2 && at - this.marks[0].at > WINDOW_MS) this.marks.shift();
    const first = this.marks[0];
    const seconds = (at - first.at) / 1000;
    const speed = seconds > 0 && {
      tokensPerSecond: (this.tokens - first.tokens) / seconds,
      secondsLeft: ((steps - step) * seconds) / (step - first.step),
    };
    return progressLine({ step, steps, loss, ...speed }, Math.max(1, columns - 1));
  }
}
