import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { normalQuantile, normals } from "../../src/train/initial/normal.js";

interface Draws {
  readonly seed: number;
  readonly name: string;
  readonly std: number;
  readonly indices: number[];
  readonly values: number[];
}
const fixture = JSON.parse(readFileSync(new URL("fixtures/initial.json", import.meta.url), "utf8")) as {
  normals: Draws[];
  quantiles: [p: number, z: number][];
};

test("quantiles are PyTorch's to a relative 2e-7", () => {
  for (const [p, z] of fixture.quantiles)
    expect(Math.abs(normalQuantile(p) - z), `p = ${p}`).toBeLessThanOrEqual(2e-7 * Math.abs(z));
});

test.each(fixture.normals)("draws of seed $seed and $name are those that Python makes", (draws) => {
  const { seed, name, std, indices, values } = draws;
  const ours = normals(seed, name, Math.max(...indices) + 1, std);
  for (const [i, index] of indices.entries())
    expect(Math.abs(ours[index] / values[i] - 1), `index ${index}`).toBeLessThan(3e-7);
});

/** Φ(x), Abramowitz and Stegun 26.2.17: an error below 7.5e-8. */
function cdf(x: number): number {
  const t = 1 / (1 + 0.2316419 * Math.abs(x));
  const series =
    t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  const upper = (Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)) * series;
  return x < 0 ? upper : 1 - upper;
}

describe("a million draws", () => {
  const count = 1_000_000;
  const draws = normals(11, "transformer.wte.weight", count, 1);
  const mean = (f: (x: number) => number) => draws.reduce((sum, x) => sum + f(x), 0) / count;

  // Each bound is four standard deviations of what is estimated: of xᵏ they are known for a normal.
  test.each<[string, (x: number) => number, number, number]>([
    ["mean", (x) => x, 0, 1],
    ["variance", (x) => x ** 2, 1, Math.sqrt(2)],
    ["third moment", (x) => x ** 3, 0, Math.sqrt(15)],
    ["fourth moment", (x) => x ** 4, 3, Math.sqrt(96)],
    ["share beyond 1", (x) => +(Math.abs(x) > 1), 0.31731051, 0.4654],
    ["share beyond 2", (x) => +(Math.abs(x) > 2), 0.04550026, 0.2084],
    ["share beyond 3", (x) => +(Math.abs(x) > 3), 0.0026998, 0.05189],
    ["share beyond 4", (x) => +(Math.abs(x) > 4), 6.334248e-5, 0.007959],
  ])("%s", (_, f, expected, std) => {
    expect(Math.abs(mean(f) - expected)).toBeLessThan((4 * std) / Math.sqrt(count));
  });

  test("follow the normal distribution (Kolmogorov and Smirnov at 0.1 %)", () => {
    const sorted = draws.slice().sort();
    let largest = 0;
    for (let i = 0; i < count; i++) {
      const p = cdf(sorted[i]);
      largest = Math.max(largest, p - i / count, (i + 1) / count - p);
    }
    expect(largest).toBeLessThan(1.95 / Math.sqrt(count));
    // No draw stands out: a million reach 4.2 nearly always and 6.3 never.
    expect(sorted[count - 1]).toBeGreaterThan(4.2);
    expect(sorted[count - 1]).toBeLessThan(6.4);
  });

  test("are related neither to their neighbours nor to another tensor's or seed's", () => {
    const related = (f: (i: number) => number) => {
      let sum = 0;
      for (let i = 0; i < count; i++) sum += draws[i] * f(i);
      return Math.abs(sum) / Math.sqrt(count);
    };
    for (const lag of [1, 2, 48, 1024]) expect(related((i) => draws[(i + lag) % count])).toBeLessThan(4);
    for (const other of [
      normals(12, "transformer.wte.weight", count, 1),
      normals(11 + 2 ** 32, "transformer.wte.weight", count, 1),
      normals(11, "transformer.wpe.weight", count, 1),
      normals(11, "transformer.wte.weighu", count, 1),
    ])
      expect(related((i) => other[i])).toBeLessThan(4);
  });
});

test("the same bits as ever: a change here changes every seed's model", () => {
  expect([...new Int32Array(normals(3, "w", 6, 0.02).buffer)]).toEqual([
    965287710, 1007159183, -1132461340, 1023345391, -1166516808, 1015339673,
  ]);
});
