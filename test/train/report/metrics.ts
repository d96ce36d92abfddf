import type { RunMetric, SampleMetric, StepMetric, ValidationMetric } from "../../../src/train/metrics.js";

/** Metrics for tests: lines that are right, but for what a test changes. `undefined` leaves a field out. */

type Changes = Record<string, unknown>;

export function run(changes: Changes = {}): RunMetric {
  const model = { family: "llama", parameters: 15_190_000, vocabSize: 32_000, hiddenSize: 288, layers: 6 };
  return { type: "run", name: "stories", model, steps: 10, config: { seed: 1 }, ...changes } as RunMetric;
}

export function step(step: number, changes: Changes = {}): StepMetric {
  const loss = 10 / step;
  return {
    type: "step",
    step,
    loss,
    learningRate: 3e-4 * step,
    gradientNorm: 1 / step,
    tokens: 100 * step,
    ...changes,
  } as StepMetric;
}

export function validation(step: number, changes: Changes = {}): ValidationMetric {
  const loss = 10 / (step + 1);
  return {
    type: "validation",
    step,
    loss,
    perplexity: Math.exp(loss),
    bitsPerByte: loss / 3,
    ...changes,
  } as ValidationMetric;
}

export function sample(step: number, changes: Changes = {}): SampleMetric {
  return { type: "sample", step, prompt: "Once", text: " upon a time", ...changes } as SampleMetric;
}

/** A file of lines. */
export function jsonl(lines: readonly object[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}
