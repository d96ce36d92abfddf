import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { LinearHead } from "../../src/head/linear.js";
import { processLogits, samplingOf } from "../../src/sampling/options.js";
import { softmax } from "../../src/sampling/processors.js";
import { chooseScored, chooseToken, pick } from "../../src/sampling/sampler.js";
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
          temperature: fc.constantFrom(1, 0.3, 1.7, 40),
          topK: fc.constantFrom(0, 1, 5, 50, 2000),
          topP: fc.constantFrom(1, 0.9, 0.2),
          minP: fc.constantFrom(0, 0.05, 0.5, 1),
          repetitionPenalty: fc.constantFrom(1, 1.3, 4, 0.7),
          seed: fc.integer({ min: 0, max: 2 ** 40 }),
        }),
        fc.integer({ min: 0, max: 99 }),
        fc.nat(80),
        fc.constantFrom(...heads),
        async (options, step, seen, head) => {
          const hidden = floats(D, options.seed % 1000);
          const sampling = samplingOf(options);
          // The penalty meets the likeliest, what follows them closely, and any.
          const best = await head.ask(hidden, { topK: 80 });
          const context = [...best.topK[0].ids.filter((_, i) => i % 3 === 0 || i < seen), 1, 2, 3, 77];
          const { logits, logSumExp } = await head.ask(hidden, { logits: true, logSumExp: true });
          const raw = logits.slice();
          processLogits(logits, sampling, context);
          const place = { sequence: 2, step, context };
          const want = pick(logits, (i) => i, sampling, place);
          expect(await chooseToken(head, hidden, sampling, place)).toBe(want);
          const logProb = raw[want] - logSumExp[0];
          expect(await chooseScored(head, hidden, sampling, place)).toEqual({ id: want, logProb });
        },
      ),
      { numRuns: 150, seed: 11 },
    );
  });

  it("leaves the vocabulary's logits where they are when a few candidates tell", async () => {
    const asked: string[] = [];
    const watched = Object.create(device, {
      ask: {
        value: (...[weights, h, query, signal]: Parameters<typeof device.ask>) => {
          asked.push(query.logits ? "logits" : query.sample ? "sample" : query.logSumExp ? "sum" : "top");
          return device.ask(weights, h, query, signal);
        },
      },
    }) as typeof device;
    const smooth = await LinearHead.fromArrays({
      weight: floats(V * D, 3, 2),
      vocabSize: V,
      hiddenSize: D,
      device,
    });
    const head = new LinearHead(watched, smooth.weights);
    const context = Array.from({ length: 1000 }, (_, i) => i);
    for (const [options, want] of [
      [{ greedy: true }, "top"],
      [{ greedy: true, repetitionPenalty: 1.2 }, "top"],
      [{ temperature: 0.7 }, "sample"],
      [{ topK: 20, topP: 0.8, repetitionPenalty: 1.1, temperature: 0.7 }, "top"],
      [{ minP: 0.3 }, "top"],
      [{ topP: 0.9 }, "logits"],
      [{ topK: 20, repetitionPenalty: 0.9 }, "logits"],
    ] as const) {
      asked.length = 0;
      await chooseToken(head, floats(D, 8, 3), samplingOf(options), { sequence: 0, step: 0, context });
      expect(asked, JSON.stringify(options)).toEqual([want]);
    }
  });

  it("a masked vocabulary: what is left is chosen from, however few", async () => {
    const bias = new Float32Array(V).fill(-Infinity);
    for (const id of [7, 900, 2400]) bias[id] = id / 1000;
    const head = await LinearHead.fromArrays({
      weight: new Float32Array(V * D),
      vocabSize: V,
      hiddenSize: D,
      bias,
      device,
    });
    for (const options of [
      { topK: 50 },
      { minP: 0.01 },
      { greedy: true, repetitionPenalty: 9 },
      { topP: 0.99 },
    ])
      for (let seed = 0; seed < 10; seed++) {
        const sampling = samplingOf({ ...options, seed });
        const place = { sequence: 0, step: 3, context: [2400] };
        const { logits } = await head.ask(new Float32Array(D), { logits: true });
        processLogits(logits, sampling, place.context);
        const want = pick(logits, (i) => i, sampling, place);
        expect([7, 900, 2400]).toContain(want);
        expect(await chooseToken(head, new Float32Array(D), sampling, place)).toBe(want);
      }
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
  it("holds back only what may begin one, and refuses the empty text", () => {
    const detector = new StopDetector(["<end>"]);
    expect(detector.push("a<").text).toBe("a");
    expect(detector.push("b<en").text).toBe("<b");
    expect(detector.push("d>more")).toEqual({ text: "", stopped: true });
    expect(detector.push("more")).toEqual({ text: "", stopped: true });
    expect(() => new StopDetector([""])).toThrow(/at least one character/);
  });

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
          const last = detector.end();
          got += last.text;
          const text = pieces.join("");
          const at = Math.min(
            ...stops.map((s) => (text.includes(s) ? text.indexOf(s) : Infinity)),
            text.length,
          );
          expect(got).toBe(text.slice(0, at));
          expect(last.stopped).toBe(stops.some((s) => text.includes(s)));
        },
      ),
      { numRuns: 500, seed: 3 },
    );
  });
});
