import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../../../src/errors.js";
import { duration, type Progress, progressLine } from "../../../src/train/report/progress.js";

const progress: Progress = {
  step: 120,
  steps: 5000,
  loss: 3.4125,
  tokensPerSecond: 12_345,
  secondsLeft: 4321,
};

describe("progressLine", () => {
  it.each([
    [80, "step   120/5,000 (2%)  loss 3.413  perplexity 30.34  12.3k tokens/s  1h 12m left"],
    [79, "step   120/5,000  loss 3.413  perplexity 30.34  12.3k tokens/s  1h 12m left"],
    [70, "step   120/5,000  loss 3.413  12.3k tokens/s  1h 12m left"],
    [50, "step   120/5,000  loss 3.413  1h 12m left"],
    [40, "step   120/5,000  loss 3.413"],
    [27, "step   120/5,000"],
    [15, "120/5000"],
    [3, "120"],
  ])("in %i columns", (columns, line) => {
    expect(progressLine(progress, columns)).toBe(line);
  });

  it("leaves out what is not known", () => {
    expect(progressLine({ step: 0, steps: 9, loss: 0 }, 80)).toBe(
      "step 0/9 (0%)  loss 0.000  perplexity 1.00",
    );
  });

  it.each([
    [0.4, "0 tokens/s"],
    [999.4, "999 tokens/s"],
    [999.6, "1k tokens/s"],
    [999_499, "999k tokens/s"],
    [999_500, "1M tokens/s"],
    [1_234_567, "1.23M tokens/s"],
  ])("%f tokens a second", (tokensPerSecond, text) => {
    expect(progressLine({ ...progress, tokensPerSecond }, 200)).toContain(`  ${text}  `);
  });

  it("says that a perplexity is too large for a number", () => {
    expect(progressLine({ ...progress, loss: 5000 }, 200)).toContain("loss 5,000  perplexity above 1e308");
  });

  it("fits any width, and a wider one shows no less", () => {
    const any = fc.record({
      steps: fc.integer({ min: 1, max: 1e9 }),
      done: fc.double({ min: 0, max: 1, noNaN: true }),
      loss: fc.double({ min: -10, max: 1e6, noNaN: true }),
      tokensPerSecond: fc.option(fc.double({ min: 0, max: 1e9, noNaN: true }), { nil: undefined }),
      secondsLeft: fc.option(fc.double({ min: 0, max: 1e9, noNaN: true }), { nil: undefined }),
    });
    fc.assert(
      fc.property(any, fc.integer({ min: 1, max: 120 }), ({ done, ...rest }, columns) => {
        const given = { ...rest, step: Math.floor(done * rest.steps) };
        const line = progressLine(given, columns);
        expect(line.length).toBeGreaterThan(0);
        expect(line.length).toBeLessThanOrEqual(columns);
        expect(progressLine(given, columns + 1).length).toBeGreaterThanOrEqual(line.length);
      }),
    );
  });

  it.each([
    [{ step: -1 }, 80, "progressLine: step: expected a whole number from 0 to 5000, got -1"],
    [{ step: 5001 }, 80, "progressLine: step: expected a whole number from 0 to 5000, got 5001"],
    [{ steps: 0 }, 80, "progressLine: steps: expected a whole number from 1, got 0"],
    [{ loss: NaN }, 80, "progressLine: loss: expected a finite number, got NaN"],
    [{ tokensPerSecond: -1 }, 80, "progressLine: tokensPerSecond: expected a finite number from 0, got -1"],
    [{ secondsLeft: Infinity }, 80, "duration: seconds: expected a finite number from 0, got Infinity"],
    [{}, 0, "progressLine: columns: expected a whole number from 1, got 0"],
    [{ eta: 3 }, 80, 'progressLine: unknown option "eta"'],
  ])("refuses %j in %i columns", (changes, columns, message) => {
    const call = () => progressLine({ ...progress, ...changes }, columns);
    expect(call).toThrow(InputError);
    expect(call).toThrow(message);
  });
});

describe("duration", () => {
  it.each([
    [0, "0s"],
    [59.4, "59s"],
    [59.6, "1m 00s"],
    [425, "7m 05s"],
    [3599.4, "59m 59s"],
    [3599.6, "1h 00m"],
    [4321, "1h 12m"],
    [86_369, "23h 59m"],
    [86_371, "1d 00h"],
    [273_600, "3d 04h"],
  ])("%f seconds", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });
});
