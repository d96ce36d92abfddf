import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { LinearHead } from "../../src/head/linear.js";
import { processLogits, samplingOf } from "../../src/sampling/options.js";
import { softmax } from "../../src/sampling/processors.js";
import { chooseToken, pick } from "../../src/sampling/sampler.js";
import { StopDetector } from "../../src/sampling/stopping.js";
import { devices } from "../devices.js";
import { floats } from "../kernels/random.js";

describe.each(devices)("choosing a token: %s", async (_, open) => {
  const device = await open();
  const V = 2500;
  const D = 12;
  // Rounded weights make ties, also at the k-th place.
  const heads = await Promise.all(
    [1, 4].map((grid) =>
      LinearHead.fromArrays({
        weight: floats(V * D, 3, 2).map((x) => Math.round(x * grid) / grid),
        vocabSize: V,
        hiddenSize: D,
        device,
      }),
    ),
  );
  afterAll(() => device.close());

  it("every way gives what processing the whole row gives", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          greedy: fc.boolean(),
          temperature: fc.constantFrom(1, 0.3, 1.7),
          topK: fc.constantFrom(0, 1, 5, 50, 2000),
          topP: fc.constantFrom(1, 0.9, 0.2),
          minP: fc.constantFrom(0, 0.05, 1),
          repetitionPenalty: fc.constantFrom(1, 1.3),
          seed: fc.integer({ min: 0, max: 2 ** 40 }),
        }),
        fc.integer({ min: 0, max: 99 }),
        fc.constantFrom(...heads),
        async (options, step, head) => {
          const hidden = floats(D, options.seed % 1000);
          const sampling = samplingOf(options);
          const context = [1, 2, 3, 77];
          const { logits } = await head.ask(hidden, { logits: true });
          processLogits(logits, sampling, context);
          const place = { sequence: 2, step, context };
          expect(await chooseToken(head, hidden, sampling, place)).toBe(
            pick(logits, (i) => i, sampling, place),
          );
        },
      ),
      { numRuns: 80, seed: 11 },
    );
  });

  it("follows the processed distribution (chi-square, fixed seeds)", async () => {
    const head = await LinearHead.fromArrays({
      weight: floats(40 * 4, 5),
      vocabSize: 40,
      hiddenSize: 4,
      device,
    });
    const hidden = floats(4, 6, 2);
    for (const options of [{}, { temperature: 0.6, topK: 12 }, { topP: 0.8 }]) {
      const sampling = samplingOf({ ...options, seed: 1234 });
      const { logits } = await head.ask(hidden, { logits: true });
      processLogits(logits, sampling, []);
      const probs = softmax(logits);
      const n = 3000;
      const counts = new Array<number>(40).fill(0);
      for (let step = 0; step < n; step++)
        counts[await chooseToken(head, hidden, sampling, { sequence: 0, step, context: [] })]++;
      let chi = 0;
      let cells = -1;
      probs.forEach((p, i) => {
        if (p === 0) expect(counts[i]).toBe(0);
        else {
          chi += (counts[i] - n * p) ** 2 / (n * p);
          cells++;
        }
      });
      // Mean `cells`, deviation √(2·cells): 5 deviations.
      expect(chi).toBeLessThan(cells + 5 * Math.sqrt(2 * Math.max(1, cells)));
    }
  });
});

describe("stop strings", () => {
  it("equal cutting the whole text at the earliest match, however it is cut into pieces", () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 4 }), {
          maxLength: 3,
        }),
        fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 5 }), { maxLength: 12 }),
        (stops, pieces) => {
          const detector = new StopDetector(stops);
          let got = "";
          let stopped = false;
          for (const piece of pieces) {
            const passed = detector.push(piece);
            got += passed.text;
            stopped = passed.stopped;
            if (stopped) break;
          }
          if (!stopped) got += detector.end();
          const text = pieces.join("");
          const at = Math.min(
            ...stops.map((s) => (text.includes(s) ? text.indexOf(s) : Infinity)),
            text.length,
          );
          expect(got).toBe(text.slice(0, at));
        },
      ),
      { numRuns: 500, seed: 3 },
    );
  });
});
