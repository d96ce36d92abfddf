// Numbers and sentences of the pages. No sentence says more than its numbers.
import { InputError } from "../../dist/errors.js";
import { spread } from "./results.mjs";

/** A sentence that is only written when it holds. @throws InputError when the data contradict it */
export function claim(holds, sentence) {
  if (!holds) throw new InputError(`the results contradict what the page would say: "${sentence}"`);
  return sentence;
}

export const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");

/** 1475200 → "1,475,200" */
export const whole = (value) => Math.round(value).toLocaleString("en-US");

export const percent = (share, digits = 0) => `${fixed(100 * share, digits)} %`;

export const mebibytes = (bytes) => `${fixed(bytes / 2 ** 20, 2)} MiB`;

/** 3.2 M, 375 k: bytes or tokens of a text. */
export const short = (value) =>
  value >= 1e6
    ? `${fixed(value / 1e6, 2)} million`
    : value >= 1e3
      ? `${fixed(value / 1e3, 1)} thousand`
      : `${value}`;

/** "1.234 (1.230 to 1.239)" */
export function withRange({ mean, min, max }, digits, scale = 1) {
  const text = (value) => fixed(value * scale, digits);
  return `${text(mean)} (${text(min)} to ${text(max)})`;
}

/** A Markdown table; the first column to the left, numbers to the right. */
export function table(head, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const rule = line(head.map((_, i) => (i === 0 ? "---" : "---:"))).replaceAll(" ", "");
  return [line(head), rule, ...rows.map(line)].join("\n");
}

/**
 * Bits per byte of two groups, seed by seed: what is better is said only where all seeds agree.
 * @param {{ name: string, group: import("./results.mjs").Group }} a
 * @param {{ name: string, group: import("./results.mjs").Group }} b
 */
export function compared(a, b) {
  const { mean, min, max } = difference(a.group, b.group);
  const seeds = a.group.runs.length;
  const by = (low, high) =>
    `by ${fixed(low, 4)} to ${fixed(high, 4)} bits per byte (mean ${fixed(Math.abs(mean), 4)})`;
  if (max < 0)
    return `With each of the ${seeds} seeds ${a.name} predicts the validation text better than ${b.name}, ${by(-max, -min)}.`;
  if (min > 0)
    return `With each of the ${seeds} seeds ${a.name} predicts the validation text worse than ${b.name}, ${by(min, max)}.`;
  return `The seeds do not agree whether ${a.name} or ${b.name} predicts the validation text better: ${a.name} less ${b.name} is ${fixed(min, 4)} to ${fixed(max, 4)} bits per byte (mean ${fixed(mean, 4)}).`;
}

/** Bits per byte of `a` less those of `b`, for each seed: below 0 where `a` is better. */
export function difference(a, b) {
  return spread(a.runs.map((run, i) => run.bitsPerByte - b.runs[i].bitsPerByte));
}

/** "a, b and c" */
export function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
