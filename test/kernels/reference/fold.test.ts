import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  emptyFold,
  type Fold,
  type FoldQuery,
  foldLogits,
  mergeFolds,
  SHARD,
  sampleFold,
  sumFold,
} from "../../../src/kernels/reference/fold.js";
import { gumbelKey } from "../../../src/kernels/reference/gumbel.js";
import { floats } from "../random.js";

const query = (over: Partial<FoldQuery> = {}): FoldQuery => ({
  what: "row 0",
  topK: 0,
  targets: new Float32Array(0),
  ...over,
});

describe("a fold", () => {
  it("gives the same bits in any split, grouping and order of shards", () => {
    const arbitrary = fc.record({
      length: fc.integer({ min: 1, max: 6 * SHARD }),
      seed: fc.integer(),
      coarse: fc.boolean(),
      owners: fc.array(fc.nat(3), { minLength: 6, maxLength: 6 }),
      order: fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }),
      topK: fc.nat(40),
    });
    fc.assert(
      fc.property(arbitrary, ({ length, seed, coarse, owners, order, topK }) => {
        const logits = floats(length, seed, 30).map((x) => (coarse ? Math.round(x) : x));
        const q = query({
          topK: Math.min(topK, length),
          targets: logits.subarray(0, 2),
          sample: { temperature: 0.5, key: gumbelKey(seed >>> 0, 1, 2) },
        });
        const whole = foldLogits(emptyFold(q), logits, 0);
        const parts: Fold[] = Array.from({ length: 4 }, () => emptyFold(q));
        for (let s = 0; s * SHARD < length; s++)
          parts[owners[s]] = foldLogits(
            parts[owners[s]],
            logits.subarray(s * SHARD, (s + 1) * SHARD),
            s * SHARD,
          );
        const left = order.map((i) => parts[i]).reduce(mergeFolds);
        const right = order.map((i) => parts[i]).reduceRight((a, b) => mergeFolds(b, a));
        expect(left).toEqual(whole);
        expect(right).toEqual(whole);
        expect(sumFold(left)).toEqual(sumFold(whole));
        expect(sampleFold(left)).toEqual(sampleFold(whole));
      }),
      { numRuns: 60 },
    );
  });

  it("equals the definitions, computed plainly", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3000 }), fc.integer(), fc.nat(50), (length, seed, k) => {
        const logits = floats(length, seed, 20).map((x) => Math.round(x * 4) / 4);
        const targets = logits.subarray(0, 1);
        const fold = foldLogits(emptyFold(query({ topK: Math.min(k, length), targets })), logits, 0);
        const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
        expect(fold.top.map(({ id }) => id)).toEqual(order.slice(0, k));
        expect(fold.larger[0]).toBe(logits.filter((x) => x > targets[0]).length);
        const p = logits.reduce((sum, x) => sum + Math.exp(x), 0);
        const { logSumExp, entropy } = sumFold(fold);
        expect(logSumExp).toBeCloseTo(Math.log(p), 10);
        const mean = logits.reduce((sum, x) => sum + (x * Math.exp(x)) / p, 0);
        expect(entropy).toBeCloseTo(Math.log(p) - mean, 9);
      }),
      { numRuns: 60 },
    );
  });

  it("passes over masked tokens and masked shards", () => {
    const logits = new Float32Array(3 * SHARD).fill(-Infinity);
    logits[SHARD + 5] = 2;
    logits[SHARD + 6] = 2;
    const sample = { temperature: 1, key: [1, 2] as const };
    const fold = foldLogits(emptyFold(query({ topK: 4, sample })), logits, 0);
    expect(sumFold(fold).logSumExp).toBeCloseTo(2 + Math.LN2, 12);
    expect(sumFold(fold).entropy).toBeCloseTo(Math.LN2, 12);
    expect(fold.top.map(({ id }) => id)).toEqual([SHARD + 5, SHARD + 6, 0, 1]);
    expect([SHARD + 5, SHARD + 6]).toContain(sampleFold(fold).id);
  });

  it("refuses what has no answer, naming row and id", () => {
    const bad = (logits: number[]) => () =>
      sumFold(foldLogits(emptyFold(query({ what: "row 7" })), Float32Array.from(logits), 0));
    expect(bad([1, Number.NaN, 2])).toThrow("row 7: the logit of id 1 is NaN");
    expect(bad([1, 2, Infinity])).toThrow("row 7: the logit of id 2 is Infinity");
    expect(bad([-Infinity, -Infinity])).toThrow("row 7: every logit is -Infinity");
    expect(() => foldLogits(emptyFold(query()), new Float32Array(4), 3)).toThrow(RangeError);
    const one = foldLogits(emptyFold(query()), new Float32Array(4), 0);
    expect(() => mergeFolds(one, one)).toThrow("two folds hold shard 0");
  });

  it("refuses a temperature that takes every logit out of float32", () => {
    const sample = { temperature: 1e-38, key: [1, 2] as const };
    for (const x of [1e4, -1e4]) {
      const fold = foldLogits(emptyFold(query({ sample })), Float32Array.of(x, x), 0);
      expect(() => sampleFold(fold)).toThrow(/leave the range of float32/);
    }
  });
});
