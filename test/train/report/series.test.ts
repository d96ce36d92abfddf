import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { smoothed, smoothingFactor, thin } from "../../../src/train/report/series.js";

describe("thin", () => {
  it("keeps a short series whole", () => {
    expect(thin([3, 1, 2], 6)).toEqual([0, 1, 2]);
    expect(thin([], 6)).toEqual([]);
  });

  it("keeps first, last and, near every value, one as small and one as large", () => {
    const few = fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 400, size: "max" });
    let thinned = 0;
    fc.assert(
      fc.property(few, fc.integer({ min: 6, max: 60 }), (values, most) => {
        const kept = thin(values, most);
        expect(kept.length).toBeLessThanOrEqual(most);
        expect(kept[0]).toBe(0);
        expect(kept.at(-1)).toBe(values.length - 1);
        for (let i = 1; i < kept.length; i++) expect(kept[i]).toBeGreaterThan(kept[i - 1]);
        if (values.length > most) thinned++;
        // A bucket is no longer than this, so neither is the way to its extremes.
        const reach = values.length <= most ? 0 : Math.ceil(values.length / Math.floor((most - 2) / 4));
        for (const [i, value] of values.entries()) {
          const near = kept.filter((k) => Math.abs(k - i) <= reach).map((k) => values[k]);
          expect(Math.min(...near)).toBeLessThanOrEqual(value);
          expect(Math.max(...near)).toBeGreaterThanOrEqual(value);
        }
      }),
      { numRuns: 100 },
    );
    expect(thinned).toBeGreaterThan(50);
  });

  it("keeps single spikes among 100,000 values, and early values for a logarithmic axis", () => {
    const values = Array.from({ length: 100_000 }, (_, i) => Math.sin(i));
    values[54_321] = 100;
    values[77_777] = -100;
    const kept = new Set(thin(values, 4000));
    expect(kept.has(54_321) && kept.has(77_777)).toBe(true);
    expect([...kept].filter((i) => i < 100).length).toBeGreaterThan(60);
    expect([...kept].filter((i) => i >= 50_000).length).toBeGreaterThan(900);
  });
});

describe("smoothing", () => {
  it("has a factor of four decimals below 1, and none for short series", () => {
    expect([0, 1, 50, 100, 4200, 1e9].map(smoothingFactor)).toEqual([0, 0, 0, 0.5, 0.9881, 0.9999]);
  });

  it("is the average done by hand", () => {
    // f is 0.1 (1 / 10), then 2 / 11, then 3 / 12, then the factor itself.
    const [a, b, c, d] = smoothed([4, 8, 0, 10], 0.2);
    expect(a).toBeCloseTo(4, 14);
    expect(b).toBeCloseTo((2 / 11) * 4 + (9 / 11) * 8, 14);
    expect(c).toBeCloseTo(0.2 * b, 14);
    expect(d).toBeCloseTo(0.2 * c + 8, 14);
  });

  it("stays between the smallest and the largest value so far", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1 }),
        fc.double({ min: 0, max: 0.9999, noNaN: true }),
        (values, factor) => {
          for (const [i, mean] of smoothed(values, factor).entries()) {
            const before = values.slice(0, i + 1);
            expect(mean).toBeGreaterThanOrEqual(Math.min(...before) - 1e-8);
            expect(mean).toBeLessThanOrEqual(Math.max(...before) + 1e-8);
          }
        },
      ),
    );
  });
});
