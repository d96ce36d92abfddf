import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { generateCommand, generateOptions } from "../../src/cli/commands/generate.js";
import { LinearHead } from "../../src/head/linear.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { checkSuppressed, processLogits, samplingOf } from "../../src/sampling/options.js";
import { chooseScored, chooseScoredRows, chooseToken, pick } from "../../src/sampling/sampler.js";
import { devices } from "../devices.js";
import { byteTokenizerSize } from "../fixtures/byte-tokenizer.js";
import { tinyModel } from "../fixtures/tiny-models.js";
import { floats } from "../kernels/random.js";

interface Fixture {
  readonly logits: number[];
  readonly ids: number[];
  readonly cases: readonly {
    readonly name: string;
    readonly config: Readonly<Record<string, never>>;
    readonly output: readonly (number | null)[];
  }[];
}

const fixture = JSON.parse(
  readFileSync(new URL("./fixtures/suppress.json", import.meta.url), "utf8"),
) as Fixture;

describe("suppressed tokens against transformers' chain", () => {
  it.each(fixture.cases)("$name", ({ config, output }) => {
    const sampling = samplingOf({
      greedy: !config.do_sample,
      temperature: config.temperature,
      // What a config does not say is transformers' default.
      topK: config.top_k ?? (config.do_sample ? 50 : undefined),
      topP: config.top_p,
      minP: config.min_p,
      repetitionPenalty: config.repetition_penalty,
      suppressTokens: config.suppress_tokens,
    });
    const got = Float32Array.from(fixture.logits);
    processLogits(got, sampling, fixture.ids);
    expect(got.length).toBe(output.length);
    for (const [id, want] of output.entries())
      if (want === null) expect(got[id], `id ${id}`).toBe(-Infinity);
      else expect(Math.abs(got[id] - want), `id ${id}`).toBeLessThanOrEqual(1e-6 * (1 + Math.abs(want)));
  });
});

describe.each(devices)("choosing with suppressed tokens: %s", async (_, open) => {
  const device = await open();
  // Large enough to be screened.
  const V = 2500;
  const D = 12;
  const head = await LinearHead.fromArrays({
    weight: floats(V * D, 3, 2).map((x) => Math.round(x * 4) / 4),
    vocabSize: V,
    hiddenSize: D,
    device,
  });
  afterAll(() => device.close());

  it("every way, and many rows at once, give what processing the whole row gives", async () => {
    let hit = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          greedy: fc.boolean(),
          temperature: fc.constantFrom(1, 0.3, 1.7),
          topK: fc.constantFrom(0, 0, 1, 5, 50),
          topP: fc.constantFrom(1, 1, 0.9, 0.2),
          minP: fc.constantFrom(0, 0, 0.05, 0.5),
          repetitionPenalty: fc.constantFrom(1, 1, 1.3, 0.7),
          seed: fc.nat(),
        }),
        // How many of the likeliest are out, and every how many of them.
        fc.constantFrom(1, 3, 40, 700, V - 1),
        fc.constantFrom(1, 2),
        fc.integer({ min: 1, max: 5 }),
        async (options, count, every, rows) => {
          const hidden = floats(rows * D, options.seed % 1000);
          const { topK } = await head.ask(hidden, { topK: V });
          const suppressTokens = [...topK[0].ids].filter((_, i) => i % every === 0).slice(0, count);
          const sampling = samplingOf({ ...options, suppressTokens });
          const context = [...topK[0].ids.slice(0, 60)].filter((_, i) => i % 3 === 0);
          const places = Array.from({ length: rows }, (_, row) => ({ sequence: row, step: 7, context }));
          const raw = await head.ask(hidden, { logits: true, logSumExp: true });
          const want = places.map((place, row) => {
            const logits = raw.logits.slice(row * V, (row + 1) * V);
            processLogits(logits, sampling, context);
            const id = pick(logits, (i) => i, sampling, place);
            expect(suppressTokens).not.toContain(id);
            return { id, logProb: raw.logits[row * V + id] - raw.logSumExp[row] };
          });
          expect(await chooseScoredRows(head, hidden, sampling, places)).toEqual(want);
          const [first] = places;
          const row = hidden.subarray(0, D);
          expect(await chooseScored(head, row, sampling, first)).toEqual(want[0]);
          expect(await chooseToken(head, row, sampling, first)).toBe(want[0].id);
          const free = samplingOf(options);
          if ((await chooseToken(head, row, free, first)) !== want[0].id) hit++;
        },
      ),
      { numRuns: 60, seed: 4 },
    );
    // Suppressing changed the choice, and sometimes it did not.
    expect(hit).toBeGreaterThan(10);
    expect(hit).toBeLessThan(60);
  });

  it("reads the whole row only where a draw fell on a suppressed token", async () => {
    const asked: string[] = [];
    const watched = Object.create(device, {
      ask: {
        value: (...[weights, h, query, signal]: Parameters<typeof device.ask>) => {
          asked.push(`${query.logits ? "logits" : query.sample ? "sample" : "top"} ${h.length / D}`);
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
    const spied = new LinearHead(watched, smooth.weights);
    const hidden = floats(4 * D, 8, 3);
    const places = [0, 1, 2, 3].map((sequence) => ({ sequence, step: 0, context: [] }));
    const drawn = await chooseScoredRows(smooth, hidden, samplingOf({}), places);
    const [, second] = drawn.map(({ id }) => id);
    const { topK } = await smooth.ask(hidden, { topK: 2 });
    for (const [options, want] of [
      [{ suppressTokens: [second] }, ["sample 4", "logits 1"]],
      [{ greedy: true, suppressTokens: [topK[0].ids[0]] }, ["top 4"]],
      [{ topK: 20, suppressTokens: [second] }, ["top 4"]],
      [{ topP: 0.9, suppressTokens: [second] }, ["logits 4"]],
    ] as const) {
      asked.length = 0;
      await chooseScoredRows(spied, hidden, samplingOf(options), places);
      expect(asked, JSON.stringify(options)).toEqual(want);
    }
    expect(drawn.filter(({ id }) => id === second).length).toBe(1);
  });

  const prompt = { ids: [116, 104, 101, 32, 99, 97, 116] };
  const load = (json?: object) =>
    LanguageModel.load(
      tinyModel("llama", 1, json && { files: { "generation_config.json": JSON.stringify(json) } }),
      { device },
    );

  it("generation leaves them out and says raw log-probabilities", async () => {
    const model = await load();
    const free = await model.generateAll(prompt, { greedy: true, ignoreEos: true, maxNewTokens: 8 });
    const suppressTokens = [...new Set(free.ids.slice(0, 2))];
    for (const way of [{ greedy: true }, { seed: 3 }, { topP: 0.9 }, { topK: 9, repetitionPenalty: 1.2 }]) {
      const options = { ...way, suppressTokens, ignoreEos: true, maxNewTokens: 8 };
      const made = await model.generateAll(prompt, options);
      expect(made.ids.length).toBe(8);
      for (const id of suppressTokens) expect(made.ids).not.toContain(id);
      const listed = await model.generateAll(prompt, { ...options, alternatives: 2, rank: true });
      expect(listed.ids).toEqual(made.ids);
      const { tokens } = await model.score({ ids: [...prompt.ids, ...made.ids] });
      for (const [i, { logProb }] of tokens.slice(prompt.ids.length).entries())
        expect(made.logProbs[i]).toBeCloseTo(logProb!, 5);
    }
    const greedy = { greedy: true, suppressTokens, alternatives: 1, rank: true } as const;
    for await (const piece of model.generate(prompt, greedy)) {
      // The pieces list what the model itself finds likeliest.
      expect(piece.alternatives![0].id).toBe(free.ids[0]);
      expect(piece.rank).toBeGreaterThan(1);
      break;
    }
    const next = await model.next(prompt);
    const processed = await next.processed({ suppressTokens });
    expect(await processed.prob(suppressTokens[0])).toBe(0);
    const rest = 1 - (await Promise.all(suppressTokens.map((id) => next.prob(id)))).reduce((a, b) => a + b);
    const other = Array.from({ length: 9 }, (_, id) => id).find((id) => !suppressTokens.includes(id))!;
    expect(await processed.prob(other)).toBeCloseTo((await next.prob(other)) / rest, 6);
    await expect(next.processed({ suppressTokens: [byteTokenizerSize] })).rejects.toThrow(/suppressTokens/);
    await model.close();
  });

  it("generation_config.json's hold, also when it is greedy, until an option says otherwise", async () => {
    const plain = await load();
    const [first] = (await plain.generateAll(prompt, { greedy: true, maxNewTokens: 1 })).ids;
    await plain.close();
    const model = await load({ do_sample: false, suppress_tokens: [first] });
    expect(model.generationDefaults).toEqual({ greedy: true, suppressTokens: [first] });
    expect((await model.generateAll(prompt, { maxNewTokens: 1 })).ids).not.toEqual([first]);
    const nothing = { maxNewTokens: 1, suppressTokens: [] };
    expect((await model.generateAll(prompt, nothing)).ids).toEqual([first]);
    await model.close();
    await expect(load({ suppress_tokens: [1, -1] })).rejects.toThrow(
      /generation_config.json: suppress_tokens: expected ids, got \[1,-1\]/,
    );
    await expect(load({ suppress_tokens: "1" })).rejects.toThrow(/suppress_tokens: expected/);
    const beyond = await load({ suppress_tokens: [byteTokenizerSize] });
    expect(() => beyond.generate(prompt)).toThrow(/generation_config.json: suppress_tokens: .* got 261/);
    expect(() => beyond.generate(prompt, { suppressTokens: [3] })).not.toThrow();
    await beyond.close();
  });

  it("what is wrong with an option is said at once", async () => {
    const model = await load();
    const all = Array.from({ length: byteTokenizerSize }, (_, id) => id);
    for (const [suppressTokens, message] of [
      [[byteTokenizerSize], /suppressTokens: expected ids from 0 to 260, the model's vocabulary, got 261/],
      [all, /suppressTokens: all 261 ids of the vocabulary are suppressed: leave at least one/],
      [[-1], /suppressTokens: expected a list of ids, whole numbers from 0, got \[-1\]/],
      [[1.5], /suppressTokens: expected a list/],
      [[Number.NaN], /suppressTokens: expected a list/],
      [7, /suppressTokens: expected a list of ids, whole numbers from 0, got 7/],
      [null, /suppressTokens: expected a list/],
    ] as const)
      expect(() => model.generate(prompt, { suppressTokens: suppressTokens as number[] })).toThrow(message);
    // One id left is enough, whatever the filters.
    const one = { suppressTokens: all.slice(1), ignoreEos: true, maxNewTokens: 3, temperature: 0.5 };
    for (const way of [{}, { topP: 0.5 }, { topK: 5 }, { minP: 0.9 }])
      expect((await model.generateAll(prompt, { ...one, ...way })).ids).toEqual([0, 0, 0]);
    await model.close();
  });
});

it("the empty list suppresses nothing", () => {
  const sampling = samplingOf({ suppressTokens: [] });
  expect(sampling).toEqual(samplingOf({}));
  expect(() => checkSuppressed(sampling, 1)).not.toThrow();
});

it("the command line's flag", () => {
  const { options } = generateCommand(new AbortController().signal);
  const flag = options.find(({ long }) => long === "--suppress-tokens")!;
  expect(flag.parseArg!("1 2, 3", undefined)).toEqual([1, 2, 3]);
  expect(() => flag.parseArg!("1 -2", undefined)).toThrow(/--suppress-tokens: expected a whole number/);
  expect(generateOptions({ suppressTokens: [1, 2] })).toEqual({ suppressTokens: [1, 2] });
});
