import { afterAll, describe, expect, expectTypeOf, it } from "vitest";
import { AbortError, throwIfAborted } from "../../src/errors.js";
import type { Answer, Ask, CallOptions, Top } from "../../src/head/ask.js";
import { Distribution, type TokenDistribution } from "../../src/head/distribution.js";
import { LinearHead } from "../../src/head/linear.js";
import { samplingOf } from "../../src/sampling/options.js";
import { ProcessedDistribution } from "../../src/sampling/processed.js";
import { softmax } from "../../src/sampling/processors.js";
import { chooseToken } from "../../src/sampling/sampler.js";
import { devices } from "../devices.js";
import { floats } from "../kernels/random.js";

describe("the type of an answer", () => {
  it("holds what was asked; what may not have been asked may be undefined", () => {
    type Both = Answer<{ topK: 5; logSumExp: true }>;
    expectTypeOf<keyof Both>().toEqualTypeOf<"topK" | "logSumExp">();
    expectTypeOf<Both["topK"][0]["logProbs"]>().toEqualTypeOf<Float64Array>();
    expectTypeOf<Answer<{ topK: 5 }>["topK"]>().toEqualTypeOf<Top[]>();
    expectTypeOf<Answer<{ topK?: number }>["topK"]>().toEqualTypeOf<Top[] | undefined>();
    expectTypeOf<Answer<Ask>["logits"]>().toEqualTypeOf<Float32Array | undefined>();
  });
});

describe.each(devices)("what a head refuses, and what it answers: %s", async (_, open) => {
  const device = await open();
  const head = await LinearHead.random({ vocabSize: 40, hiddenSize: 8, seed: 3, device });
  const hidden = floats(8, 5, 3);
  afterAll(() => device.close());

  it.each<[string, unknown, RegExp]>([
    ["a yes that is not true", { logSumExp: 1 }, /logSumExp: expected true, got 1/],
    ["a no", { entropy: false, topK: 1 }, /entropy: expected true, got false/],
    ["logits by name", { logits: "all" }, /logits: expected true/],
    ["ids that are no list", { logProbs: 3 }, /logProbs: expected ids/],
    ["a fraction of a sequence", { sample: { seed: 1, sequences: [0.5] } }, /sequences: expected whole/],
    ["a step past int32", { sample: { seed: 1, steps: [2 ** 31] } }, /steps: expected whole/],
    ["a sample without a seed", { sample: {} }, /seed: expected/],
    ["a sample that is a number", { sample: 7 }, /sample: expected/],
  ])("%s", async (_, ask, message) => {
    await expect(head.ask(hidden, ask as Ask)).rejects.toThrow(message);
  });

  it("no rows have no answers", async () => {
    const answer = await head.ask(new Float32Array(0), {
      topK: 2,
      logProbs: [1],
      rank: [2],
      logSumExp: true,
    });
    expect(answer.topK).toEqual([]);
    expect(answer.logProbs).toEqual([]);
    expect(answer.rank).toEqual([]);
    expect(answer.logSumExp.length).toBe(0);
  });

  it("top-k has log-probabilities when the log-sum-exp or log-probabilities were asked", async () => {
    expect((await head.ask(hidden, { topK: 3 })).topK[0]).not.toHaveProperty("logProbs");
    expect((await head.ask(hidden, { topK: 3, entropy: true })).topK[0]).not.toHaveProperty("logProbs");
    const { topK, logProbs } = await head.ask(hidden, { topK: 3, logProbs: [7] });
    const at = topK[0].ids.indexOf(7);
    if (at >= 0) expect(topK[0].logProbs[at]).toBe(logProbs[0][0]);
  });

  it("a head too large to hold is refused in words", async () => {
    await expect(
      LinearHead.random({ vocabSize: 2 ** 31, hiddenSize: 2 ** 20, seed: 1, device }),
    ).rejects.toMatchObject({ name: "InputError" });
  });

  it("random weights are uniform on ±1/√D, and a seed's numbers do not depend on how they are read", async () => {
    const wide = await LinearHead.random({ vocabSize: 500, hiddenSize: 64, seed: 9, bias: false, device });
    const rows = await wide.weights.matrix.gather(Int32Array.from({ length: 500 }, (_, i) => i));
    expect(await wide.weights.matrix.gather([77])).toEqual(rows.slice(77 * 64, 78 * 64));
    const bins = new Array<number>(16).fill(0);
    for (const x of rows) bins[Math.floor((x * 8 + 1) * 8)]++;
    const want = rows.length / 16;
    expect(bins.reduce((chi, n) => chi + (n - want) ** 2 / want, 0)).toBeLessThan(15 + 5 * Math.sqrt(30));
  });

  const text = { encode: (t: string) => [...t].map((c) => c.charCodeAt(0) - 97), tokenText: String };

  it("a distribution is processed by options, its own ids and others", async () => {
    const raw = new Distribution(head, hidden, { text, ids: [1, 2] });
    const processed = await raw.processed({ topK: 4, temperature: 0.7, repetitionPenalty: 1.5 });
    const same = await ProcessedDistribution.of(
      raw,
      { topK: 4, temperature: 0.7, repetitionPenalty: 1.5 },
      [2, 1],
    );
    expect(await processed.top(40)).toEqual(await same.top(40));
    const unaware = new Distribution(head, hidden);
    await expect(unaware.processed({ repetitionPenalty: 1.5 })).rejects.toThrow(/needs the ids/);
    // @ts-expect-error an unknown option
    await expect(raw.processed({ topk: 4 })).rejects.toThrow(/unknown option "topk"/);
    const logits = await processed.logits();
    expect(logits.filter((x) => x > -Infinity).length).toBe(4);
    const probs = softmax(logits);
    expect(await processed.entropy()).toBeCloseTo(-probs.reduce((s, p) => s + (p && p * Math.log(p)), 0), 9);
    const [best] = await processed.top(1);
    expect(best.logit - (await processed.logSumExp())).toBeCloseTo(best.logProb, 9);
  });

  it("a processed distribution's sample is the token that generation chooses", async () => {
    const raw = new Distribution(head, hidden, { ids: [1, 2] });
    for (const options of [{ greedy: true }, { topK: 5 }, { minP: 0.2, temperature: 1.4 }, { topP: 0.7 }])
      for (let seed = 0; seed < 20; seed++) {
        const place = { sequence: 0, step: 0, context: [1, 2] };
        const chosen = await chooseToken(head, hidden, samplingOf({ ...options, seed }), place);
        const processed = await raw.processed(options);
        expect(await processed.sample({ seed })).toBe(chosen);
        expect(await processed.prob(chosen)).toBeGreaterThan(0);
        if ("greedy" in options) expect(await processed.prob(chosen)).toBe(1);
      }
    const processed = await raw.processed({ topK: 5 });
    // @ts-expect-error an unknown option
    await expect(processed.sample({ seed: 1, temprature: 2 })).rejects.toThrow(/unknown option/);
    await expect(processed.sample({ seed: 1, temperature: 1e-42 })).rejects.toThrow(/temperature/);
  });

  it("text of several tokens goes by the continuation, or is refused", async () => {
    const rows = Float32Array.of(...hidden, ...floats(8, 6, 3), ...floats(8, 7, 3));
    const continuation = async (ids: readonly number[]) => rows.subarray(0, 8 * ids.length);
    const aware = new Distribution(head, hidden, { text, ids: [3], continuation });
    const each = [0, 1, 2].map((i) => new Distribution(head, rows.slice(8 * i, 8 * i + 8)));
    const raw = await Promise.all(each.map((one, i) => one.logProb(i + 1)));
    const sum = raw[0] + raw[1] + raw[2];
    expect(await aware.logProb("bcd")).toBeCloseTo(sum, 9);
    expect(await aware.prob("bcd")).toBeCloseTo(Math.exp(sum), 9);
    const unaware = new Distribution(head, hidden, { text });
    await expect(unaware.prob("bcd")).rejects.toThrow(/is 3 tokens/);
    await expect(unaware.prob("")).rejects.toThrow(/empty text/);
    await expect(new Distribution(head, hidden).prob("b")).rejects.toThrow(/no tokenizer/);
    await expect((await unaware.processed({})).prob("bcd")).rejects.toThrow(/is 3 tokens/);

    // Processed, each after those before it: the penalty has seen them.
    expect(await (await aware.processed({})).logProb("bcd")).toBeCloseTo(sum, 6);
    const options = { temperature: 1.4, repetitionPenalty: 3, topK: 39 };
    const processed = await aware.processed(options);
    const chain = await Promise.all(
      each.map(async (one, i) => (await one.processed(options, [3, 1, 2].slice(0, i + 1))).logProb(i + 1)),
    );
    expect(await processed.logProb("bcd")).toBeCloseTo(chain[0] + chain[1] + chain[2], 9);
    expect(await processed.prob("bcd")).toBeCloseTo(Math.exp(chain[0] + chain[1] + chain[2]), 9);
    await expect(processed.rank("bcd")).rejects.toThrow(/is 3 tokens .*: a rank is of one token/);
    // What a filter removes can't come, whichever token it is.
    const greedy = await aware.processed({ greedy: true });
    const best = await Promise.all(each.map(async (one) => (await one.top(1))[0].id));
    const spelled = (ids: number[]) => ids.map((id) => String.fromCharCode(97 + id)).join("");
    expect(await greedy.prob(spelled(best))).toBe(1);
    expect(await greedy.logProb(spelled([best[0], (best[1] + 1) % 40]))).toBe(-Infinity);
    expect(await greedy.prob(spelled([(best[0] + 1) % 40, 0]))).toBe(0);
  });

  const questions: [string, (next: TokenDistribution, options: CallOptions) => Promise<unknown>][] = [
    ["top", (next, options) => next.top(3, options)],
    ["prob", (next, options) => next.prob("b", options)],
    ["logProb", (next, options) => next.logProb("b", options)],
    ["rank", (next, options) => next.rank("b", options)],
    ["entropy", (next, options) => next.entropy(options)],
    ["logSumExp", (next, options) => next.logSumExp(options)],
    ["logits", (next, options) => next.logits(options)],
    ["sample", (next, options) => next.sample({ seed: 1 }, options)],
  ];

  it.each([
    ...questions,
    [
      "several tokens",
      (next: TokenDistribution, options: CallOptions) => next.logProb("bcd", options),
    ] as const,
    [
      "processed",
      (next: TokenDistribution, options: CallOptions) =>
        (next as Distribution).processed({ topK: 2 }, undefined, options),
    ] as const,
  ])("%s hands its signal on, so that it ends what runs", async (_, question) => {
    const { signal } = new AbortController();
    const seen: (AbortSignal | undefined)[] = [];
    const watched = Object.create(device, {
      ask: {
        value: (...all: Parameters<typeof device.ask>) => {
          seen.push(all[3]);
          return device.ask(...all);
        },
      },
    }) as typeof device;
    const raw = new Distribution(new LinearHead(watched, head.weights), hidden, {
      text,
      continuation: async (ids, { signal }) => {
        seen.push(signal);
        throwIfAborted(signal);
        return Float32Array.from({ length: ids.length * hidden.length }, (_, i) => hidden[i % hidden.length]);
      },
    });
    await question(raw, { signal });
    expect(new Set(seen)).toEqual(new Set([signal]));
    await expect(question(raw, { signal: AbortSignal.abort() })).rejects.toThrow(AbortError);
    await expect(question(raw, { sginal: signal } as CallOptions)).rejects.toThrow(/unknown option "sginal"/);
  });

  it.each(questions)("%s of a processed distribution takes a signal too", async (_, question) => {
    const processed = await new Distribution(head, hidden, { text }).processed({ topK: 3 });
    await question(processed, {});
    await expect(question(processed, { signal: AbortSignal.abort() })).rejects.toThrow(AbortError);
    await expect(question(processed, { sginal: 1 } as CallOptions)).rejects.toThrow(
      /unknown option "sginal"/,
    );
  });

  it("sums that one caller aborts are another's to have; without signals one pass does for both", async () => {
    let passes = 0;
    const counted = Object.create(device, {
      ask: {
        value: (...all: Parameters<typeof device.ask>) => {
          passes++;
          return device.ask(...all);
        },
      },
    }) as typeof device;
    const raw = new Distribution(new LinearHead(counted, head.weights), hidden);
    const controller = new AbortController();
    const stopped = expect(raw.entropy({ signal: controller.signal })).rejects.toThrow(AbortError);
    const both = Promise.all([raw.entropy(), raw.logSumExp()]);
    controller.abort();
    await stopped;
    const [entropy, logSumExp] = await both;
    expect([await raw.entropy(), await raw.logSumExp()]).toEqual([entropy, logSumExp]);
    expect(passes).toBe(2);
  });

  it("a question that failed is asked anew", async () => {
    let fail = true;
    const shy = Object.create(device, {
      ask: {
        value: (...all: Parameters<typeof device.ask>) =>
          fail ? Promise.reject(new Error("busy")) : device.ask(...all),
      },
    }) as typeof device;
    const raw = new Distribution(new LinearHead(shy, head.weights), hidden);
    await expect(raw.entropy()).rejects.toThrow("busy");
    fail = false;
    expect(await raw.entropy()).toBeGreaterThan(0);
  });
});
