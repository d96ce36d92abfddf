import { checkFields } from "../../errors.js";
import { must } from "../optimizers/hyper.js";
import { figures, grouped, share } from "./format.js";

/** The line that a terminal shows while a model trains. Nothing here reads a clock or a terminal. */

/** Where a run stands. */
export interface Progress {
  /** Steps finished. */
  readonly step: number;
  /** Steps of the run. */
  readonly steps: number;
  /** Nats per predicted token. */
  readonly loss: number;
  /** Tokens predicted a second; left out while nothing is known. */
  readonly tokensPerSecond?: number;
  /** Seconds until the run ends; left out while nothing is known. */
  readonly secondsLeft?: number;
}

/**
 * One line: "step   120/5,000 (2%)  loss 3.412  perplexity 30.33  12.3k tokens/s  1h 12m left". What does not fit in
 * `columns` goes: first the percent, then perplexity, speed, time left and loss; of the steps alone, what fits.
 * @param columns width of the terminal, from 1
 * @throws InputError for unknown fields and for numbers out of their range
 */
export function progressLine(progress: Progress, columns: number): string {
  const what = "progressLine";
  checkFields(what, progress, ["step", "steps", "loss", "tokensPerSecond", "secondsLeft"]);
  const { step, steps, loss, tokensPerSecond, secondsLeft } = progress;
  must(Number.isSafeInteger(steps) && steps >= 1, what, "steps", "a whole number from 1", steps);
  const range = `a whole number from 0 to ${steps}`;
  must(Number.isSafeInteger(step) && step >= 0 && step <= steps, what, "step", range, step);
  must(Number.isFinite(loss), what, "loss", "a finite number", loss);
  must(Number.isSafeInteger(columns) && columns >= 1, what, "columns", "a whole number from 1", columns);
  const done = `step ${grouped(step).padStart(grouped(steps).length)}/${grouped(steps)}`;
  // In the order they stand in, each with its turn to go.
  const parts: { text: string; turn: number }[] = [
    { text: `${done} (${share(step, steps)})`, turn: 6 },
    { text: `loss ${fixedLoss(loss)}`, turn: 5 },
    { text: `perplexity ${perplexity(loss)}`, turn: 2 },
  ];
  if (tokensPerSecond !== undefined) parts.push({ text: `${rate(tokensPerSecond)} tokens/s`, turn: 3 });
  if (secondsLeft !== undefined) parts.push({ text: `${duration(secondsLeft)} left`, turn: 4 });
  for (let gone = 0; gone <= 5; gone++) {
    const left = parts.filter(({ turn }) => turn > gone).map(({ text }) => text);
    // The percent goes first, out of its part.
    const line = (gone === 0 ? left : [done, ...left.slice(1)]).join("  ");
    if (line.length <= columns) return line;
  }
  return `${step}/${steps}`.slice(0, columns);
}

/**
 * Seconds as a person says them, in two units: "42s", "7m 05s", "1h 12m", "3d 04h".
 * @throws InputError unless `seconds` is a finite number from 0
 */
export function duration(seconds: number): string {
  must(Number.isFinite(seconds) && seconds >= 0, "duration", "seconds", "a finite number from 0", seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  const s = Math.round(seconds);
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  const m = Math.round(seconds / 60);
  if (m < 24 * 60) return `${Math.floor(m / 60)}h ${two(m % 60)}m`;
  const h = Math.round(seconds / 3600);
  return `${Math.floor(h / 24)}d ${two(h % 24)}h`;
}

/** "950", "12.3k", "1.23M". */
function rate(perSecond: number): string {
  must(
    Number.isFinite(perSecond) && perSecond >= 0,
    "progressLine",
    "tokensPerSecond",
    "a finite number from 0",
    perSecond,
  );
  if (perSecond < 999.5) return String(Math.round(perSecond));
  return perSecond < 999_500
    ? `${Number((perSecond / 1e3).toPrecision(3))}k`
    : `${Number((perSecond / 1e6).toPrecision(3))}M`;
}

/** Three decimals, so that the line stands still; what is too large for them in four digits. */
function fixedLoss(loss: number): string {
  return Math.abs(loss) < 1e3 ? loss.toFixed(3) : figures(loss);
}

/** e^loss, which may be larger than a number can be. */
function perplexity(loss: number): string {
  const value = Math.exp(loss);
  return Number.isFinite(value) ? figures(value) : "above 1e308";
}
