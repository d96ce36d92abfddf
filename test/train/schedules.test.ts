import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/errors.js";
import { checkSchedule, learningRate, type Schedule } from "../../src/train/schedules.js";

/** transformers' numbers: see fixtures/make_optimizers.py. */
const { cases }: { cases: { schedule: Schedule; rates: number[] }[] } = JSON.parse(
  readFileSync(new URL("fixtures/schedules.json", import.meta.url), "utf8"),
);

const schedules: fc.Arbitrary<Schedule> = fc
  .record({
    kind: fc.constantFrom("constant", "linear", "cosine", "wsd"),
    peak: fc.double({ min: 0, max: 1, noNaN: true }),
    warmupSteps: fc.nat(30),
    stableSteps: fc.nat(30),
    decaySteps: fc.integer({ min: 1, max: 30 }),
    finalFraction: fc.double({ min: 0, max: 1, noNaN: true }),
    decay: fc.constantFrom("linear", "1-sqrt"),
  })
  .map(({ kind, peak, warmupSteps, stableSteps, decaySteps, finalFraction, decay }) => {
    const steps = warmupSteps + stableSteps + decaySteps;
    if (kind === "constant") return { kind, peak, warmupSteps };
    if (kind === "wsd") return { kind, peak, warmupSteps, steps, decaySteps, decay, finalFraction };
    return { kind, peak, warmupSteps, steps, finalFraction };
  });

describe("schedules of transformers", () => {
  it.each(cases)("$schedule", ({ schedule, rates }) => {
    for (const [step, rate] of rates.entries())
      expect(Math.abs(learningRate(schedule, step) - rate), `step ${step}`).toBeLessThan(1e-15);
  });

  it("cover every kind and both decays", () => {
    const names = cases.map(({ schedule }) => (schedule.kind === "wsd" ? schedule.decay : schedule.kind));
    expect(new Set(names)).toEqual(new Set(["constant", "linear", "cosine", "1-sqrt"]));
  });
});

describe("any schedule", () => {
  it("rises to its peak, never rises again, and stays at its end", () => {
    fc.assert(
      fc.property(schedules, (schedule) => {
        const { peak, warmupSteps = 0 } = schedule;
        const end = schedule.kind === "constant" ? warmupSteps : schedule.steps;
        const final = schedule.kind === "constant" ? peak : peak * (schedule.finalFraction ?? 0);
        const rates = Array.from({ length: end + 3 }, (_, step) => learningRate(schedule, step));
        for (let s = 0; s < warmupSteps; s++) {
          expect(rates[s]).toBe(peak * (s / warmupSteps));
          expect(rates[s + 1]).toBeGreaterThanOrEqual(rates[s]);
        }
        expect(rates[warmupSteps]).toBe(peak);
        // To rounding: with a final fraction of nearly 1 all that is left of the decay is noise.
        for (let s = warmupSteps; s < end + 2; s++)
          expect(rates[s + 1]).toBeLessThanOrEqual(rates[s] * (1 + 1e-15));
        expect(rates.slice(end)).toEqual([final, final, final]);
      }),
    );
  });

  it("of wsd stays at the peak until the decay", () => {
    const schedule = { kind: "wsd", peak: 2, warmupSteps: 3, steps: 20, decaySteps: 5 } as const;
    const rates = Array.from({ length: 21 }, (_, step) => learningRate(schedule, step));
    expect(rates.slice(3, 16)).toEqual(new Array(13).fill(2));
    expect(rates[16]).toBeCloseTo(1.6, 14);
    expect(rates[20]).toBe(0);
  });
});

describe("bad schedules", () => {
  const bad: [unknown, string][] = [
    [{ kind: "step", peak: 1 }, 'kind: expected constant, linear, cosine, wsd, got "step"'],
    [{ kind: "toString", peak: 1 }, "kind"],
    [{ kind: "constant", peak: -1 }, "peak"],
    [{ kind: "constant", peak: Number.NaN }, "peak"],
    [{ kind: "constant", peak: "1" }, "peak"],
    [{ kind: "constant" }, "peak"],
    [{ kind: "constant", peak: 1, steps: 5 }, 'unknown option "steps"'],
    [{ kind: "cosine", peak: 1, steps: 5, minimum: 0 }, 'unknown option "minimum"'],
    [{ kind: "cosine", peak: 1 }, "steps"],
    [{ kind: "linear", peak: 1, warmupSteps: 1.5, steps: 5 }, "warmupSteps"],
    [{ kind: "linear", peak: 1, warmupSteps: 5, steps: 5 }, "above warmupSteps, which is 5, got 5"],
    [{ kind: "linear", peak: 1, steps: 5, finalFraction: 1.1 }, "finalFraction"],
    [{ kind: "wsd", peak: 1, steps: 5 }, "decaySteps"],
    [{ kind: "wsd", peak: 1, steps: 5, warmupSteps: 2, decaySteps: 4 }, "decaySteps"],
    [{ kind: "wsd", peak: 1, steps: 5, decaySteps: 2, decay: "cosine" }, "decay"],
  ];
  it.each(bad)("%j", (schedule, message) => {
    for (const use of [checkSchedule, (s: Schedule) => learningRate(s, 0)]) {
      expect(() => use(schedule as Schedule)).toThrow(InputError);
      expect(() => use(schedule as Schedule)).toThrow(message);
    }
  });

  it.each([-1, 0.5, Number.NaN, Infinity])("step %d", (step) => {
    expect(() => learningRate({ kind: "constant", peak: 1 }, step)).toThrow(InputError);
  });
});
