import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chooseAmong } from "../../src/sampling/candidates.js";
import { processLogits, samplingOf } from "../../src/sampling/options.js";
import { pick } from "../../src/sampling/pick.js";

/** The n best of a row, as a head gives them, sorted by id. */
function best(row: Float32Array, n: number) {
  const order = Array.from(row.keys()).sort((a, b) => row[b] - row[a] || a - b);
  const ids = order.slice(0, n).sort((a, b) => a - b);
  return { ids, logits: Float32Array.from(ids, (id) => row[id]), least: row[order[n - 1]] };
}

describe("choosing among candidates", () => {
  it("gives what the whole row gives, or asks for more", () => {
    let chosen = 0;
    let more = 0;
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -6, max: 12 }), { minLength: 2, maxLength: 40 }),
        fc.constantFrom(1, 2, 8),
        fc.integer({ min: 1, max: 30 }),
        // Each kind that the sampler sends here: greedy, top-k with anything, min-p alone.
        fc.oneof(
          fc.record({ greedy: fc.constant(true) }),
          fc.record({
            topK: fc.integer({ min: 1, max: 12 }),
            topP: fc.constantFrom(1, 0.7),
            minP: fc.constantFrom(0, 0.1, 0.6),
          }),
          fc.record({ minP: fc.constantFrom(0.05, 0.3, 0.9, 1) }),
        ),
        fc.record({
          temperature: fc.constantFrom(1, 0.5, 3),
          repetitionPenalty: fc.constantFrom(1, 1.5, 3),
          seed: fc.nat(),
        }),
        fc.array(fc.nat(39), { maxLength: 6 }),
        (numbers, grid, n, filters, rest, context) => {
          const row = Float32Array.from(numbers, (x) => x / grid);
          const sampling = samplingOf({ ...filters, ...rest });
          const place = { sequence: 0, step: 1, context: context.filter((id) => id < row.length) };
          const got = chooseAmong(best(row, Math.min(n, row.length)), sampling, place);
          const processed = row.slice();
          processLogits(processed, sampling, place.context);
          const id = pick(processed, (i) => i, sampling, place);
          if (got) expect(got).toEqual({ id, logit: row[id] });
          chosen += got ? 1 : 0;
          more += got ? 0 : 1;
        },
      ),
      { numRuns: 5000, seed: 2 },
    );
    expect(Math.min(chosen, more)).toBeGreaterThan(500);
  });

  it("a tie with an id that is no candidate needs more of them", () => {
    const sampling = samplingOf({ topK: 2 });
    const place = { sequence: 0, step: 0, context: [] };
    expect(chooseAmong(best(Float32Array.of(5, 4, 4, 4), 3), sampling, place)).toBeUndefined();
    expect(chooseAmong(best(Float32Array.of(5, 4, 3, 3), 3), sampling, place)).toBeDefined();
    // The penalty brings id 2 down to what id 1 has, and id 1 was not listed: it is the lower of the two.
    const greedy = samplingOf({ greedy: true, repetitionPenalty: 1.5 });
    const row = Float32Array.of(4, 4, 6);
    expect(chooseAmong(best(row, 2), greedy, { ...place, context: [0, 2] })).toBeUndefined();
  });
});
