import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AbortError, InputError } from "../../src/errors.js";
import type { Device } from "../../src/kernels/device.js";
import { LanguageModel } from "../../src/model/language-model.js";
import type { GeneratedOne, GenerateManyOptions, Prompt } from "../../src/model/types.js";
import { LanguageModel as NodeModel } from "../../src/node.js";
import { devices } from "../devices.js";
import { byteTokenizerSize } from "../fixtures/byte-tokenizer.js";
import { tinyFamilies, tinyModel } from "../fixtures/tiny-models.js";
import { shared, sharedPath } from "../shared.js";

async function gather(results: AsyncIterable<GeneratedOne>): Promise<GeneratedOne[]> {
  const all: GeneratedOne[] = [];
  for await (const one of results) all.push(one);
  return all;
}

/** What each prompt gives alone. */
async function alone(
  model: LanguageModel,
  prompts: readonly Prompt[],
  { batchSize: _, ...options }: GenerateManyOptions,
) {
  const all: GeneratedOne[] = [];
  for (const [index, prompt] of prompts.entries()) {
    const { timing, finishReason, ...made } = await model.generateAll(prompt, {
      ...options,
      sequence: index,
    });
    if (finishReason === "abort") throw new Error("aborted");
    all.push({ index, ...made, finishReason });
  }
  return all;
}

const byIndex = (results: readonly GeneratedOne[]) => [...results].sort((a, b) => a.index - b.index);

/** Prompts of other lengths each; the context of a tiny model holds 48 tokens. */
const prompts: readonly Prompt[] = [3, 45, 1, 17, 48, 8, 2].map((length, p) => ({
  ids: Array.from({ length }, (_, i) => (i * 37 + p * 11 + 5) % (byteTokenizerSize - 1)),
}));

const ways: readonly [string, GenerateManyOptions][] = [
  ["greedy", { greedy: true }],
  ["greedy with a penalty", { greedy: true, repetitionPenalty: 1.3 }],
  ["greedy with suppressed tokens", { greedy: true, suppressTokens: [0, 7, 99, 100, 101, 200] }],
  ["plain", { seed: 7 }],
  ["temperature", { temperature: 1.4, seed: 2 }],
  ["a sample with suppressed tokens", { seed: 2, suppressTokens: [...Array(120).keys()] }],
  ["top-k", { topK: 12, seed: 1 }],
  ["top-p", { topP: 0.8, seed: 1 }],
  ["min-p", { minP: 0.1, seed: 1 }],
  ["a penalty", { repetitionPenalty: 1.4, seed: 5 }],
  ["a penalty below 1", { repetitionPenalty: 0.8, temperature: 0.7, seed: 5 }],
  [
    "all of it",
    {
      temperature: 0.9,
      topK: 40,
      topP: 0.9,
      minP: 0.01,
      repetitionPenalty: 1.1,
      suppressTokens: [5],
      seed: 9,
    },
  ],
];

describe.each(devices)("many prompts at once on %s", (_, open) => {
  let device: Device;
  let model: LanguageModel;
  /** Rows of each sequence in each run, rows of each ask, and the caches not yet freed. */
  const seen = { runs: [] as number[][], asks: [] as number[], caches: 0 };
  beforeAll(async () => {
    const real = await open();
    device = Object.create(real, {
      run: {
        value: (...[program, call]: Parameters<Device["run"]>) => {
          seen.runs.push(call.segments.map(({ rows }) => rows));
          return real.run(program, call);
        },
      },
      ask: {
        value: (...[weights, h, query, signal]: Parameters<Device["ask"]>) => {
          seen.asks.push(h.length / weights.matrix.cols);
          return real.ask(weights, h, query, signal);
        },
      },
      cache: {
        value: (program: Parameters<Device["cache"]>[0]) => {
          const cache = real.cache(program);
          const free = cache.free.bind(cache);
          seen.caches++;
          cache.free = () => {
            seen.caches--;
            free();
          };
          return cache;
        },
      },
    }) as Device;
    model = await LanguageModel.load(tinyModel("llama"), { device });
  });
  afterAll(async () => {
    await model.close();
    await device.close();
  });
  const forget = () => {
    seen.runs.length = 0;
    seen.asks.length = 0;
  };

  test.each(ways)("%s: what each gives alone, to the bit, in batches of 1, 3 and 32", async (_, way) => {
    const options = { ...way, maxNewTokens: 9 };
    const want = await alone(model, prompts, options);
    // One ends with its context, or there would be no early end.
    expect(new Set(want.map(({ ids }) => ids.length)).size).toBeGreaterThan(1);
    for (const batchSize of [1, 3, 32])
      expect(byIndex(await gather(model.generateMany(prompts, { ...options, batchSize })))).toEqual(want);
    expect(seen.caches).toBe(0);
  });

  test.each(tinyFamilies)("%s: what each gives alone", async (family) => {
    const other = await LanguageModel.load(tinyModel(family), { device });
    const options = { seed: 4, temperature: 0.9, maxNewTokens: 6 };
    const want = await alone(other, prompts, options);
    expect(byIndex(await gather(other.generateMany(prompts, { ...options, batchSize: 4 })))).toEqual(want);
    await other.close();
  });

  test("end tokens and stop strings end a sequence where they end it alone", async () => {
    const long = { seed: 3, temperature: 2, ignoreEos: true, maxNewTokens: 30 };
    const free = await alone(model, prompts, long);
    const ends = [free[0].ids[4]];
    // Two printable characters from the middle of one that lacks the end token.
    const other = free.find(({ ids }) => ids.length === 30 && !ids.includes(ends[0]))!;
    const [stop] = other.text.slice(6).match(/[!-~]{2}/)!;
    const ending = await LanguageModel.load(
      tinyModel("llama", 1, { files: { "generation_config.json": JSON.stringify({ eos_token_id: ends }) } }),
      { device },
    );
    const options = { ...long, ignoreEos: false, stop: [stop, "never, surely"] };
    const want = await alone(ending, prompts, options);
    expect(new Set(want.map(({ finishReason }) => finishReason))).toEqual(new Set(["eos", "stop", "length"]));
    for (const batchSize of [2, 5])
      expect(byIndex(await gather(ending.generateMany(prompts, { ...options, batchSize })))).toEqual(want);
    await ending.close();
  });

  test("more sequences than one call of the device holds", async () => {
    const many = Array.from({ length: 300 }, (_, i) => ({ ids: i % 3 === 0 ? [i % 250, 9] : [i % 250] }));
    const options = { temperature: 1.2, seed: 8, maxNewTokens: 2, batchSize: 300 };
    forget();
    const got = byIndex(await gather(model.generateMany(many, options)));
    expect(seen.runs.map((segments) => segments.length)).toEqual([192, 108, 256, expect.any(Number)]);
    expect(got).toEqual(await alone(model, many, options));
  });

  test("a step is one run and one ask for all; who ends leaves at once, and the next comes in", async () => {
    const options = { greedy: true, ignoreEos: true, maxNewTokens: 5, batchSize: 3 };
    forget();
    const results = await gather(model.generateMany(prompts, options));
    // Lengths 3, 45, 1, 17, 48, 8, 2: the second has room for 4 new tokens, the fifth for 1, the others give 5.
    expect(results.map(({ index }) => index)).toEqual([1, 0, 2, 4, 3, 5, 6]);
    expect(results.map(({ ids }) => ids.length)).toEqual([4, 5, 5, 1, 5, 5, 5]);
    expect(seen.runs).toEqual([
      [3, 45, 1],
      [1, 1, 1],
      [1, 1, 1],
      [1, 1, 1],
      [1, 1, 17],
      [1, 48, 8],
      [1, 1, 2],
      [1, 1, 1],
      [1, 1, 1],
      [1, 1],
      [1],
    ]);
    expect(seen.asks).toEqual([3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 1]);
  });

  test("a result comes before the others are done, and nothing runs while the caller keeps it", async () => {
    const results = model.generateMany(prompts, { greedy: true, ignoreEos: true, maxNewTokens: 20 });
    forget();
    const first = await results.next();
    expect(first.value).toMatchObject({ index: 4, finishReason: "length" });
    const { length } = seen.runs;
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(seen.runs.length).toBe(length);
    expect(seen.caches).toBe(prompts.length - 1);
    await results.return();
    expect(seen.caches).toBe(0);
    expect((await results.next()).done).toBe(true);
  });

  describe("where the prompts come from", () => {
    /** Prompts one by one; says how many were read, and whether it was closed. */
    function source(wait?: (index: number) => Promise<void>) {
      const state = { read: 0, closed: false };
      async function* generator(): AsyncGenerator<Prompt> {
        try {
          for (const prompt of prompts) {
            await wait?.(state.read);
            state.read++;
            yield prompt;
          }
        } finally {
          state.closed = true;
        }
      }
      return { state, prompts: generator() };
    }
    const options = { greedy: true, maxNewTokens: 4, ignoreEos: true } as const;

    test("an async source with prompts ready fills the batch before the first step", async () => {
      const { prompts: from, state } = source();
      forget();
      const results = await gather(model.generateMany(from, { ...options, batchSize: 5 }));
      expect(byIndex(results)).toEqual(await alone(model, prompts, options));
      expect(seen.runs[0]).toEqual([3, 45, 1, 17, 48]);
      expect(state).toEqual({ read: 7, closed: true });
    });

    test("one that takes its time holds nobody up", async () => {
      let release = () => {};
      const gate = new Promise<void>((resolve) => {
        release = resolve;
      });
      const { prompts: from } = source((index) => (index < 2 ? Promise.resolve() : gate));
      const results = model.generateMany(from, options);
      const early = [(await results.next()).value, (await results.next()).value] as GeneratedOne[];
      expect(early.map(({ index }) => index)).toEqual([0, 1]);
      release();
      const late = await gather(results);
      expect(byIndex([...early, ...late])).toEqual(await alone(model, prompts, options));
    });

    test("none, any iterable, text", async () => {
      expect(await gather(model.generateMany([], options))).toEqual([]);
      const texts = new Set(["the cat", "a", "the cat and the dog"]);
      const want = await alone(model, [...texts], options);
      expect(byIndex(await gather(model.generateMany(texts, options)))).toEqual(want);
    });

    test("breaking out closes the source and reads no more of it", async () => {
      const { prompts: from, state } = source();
      for await (const { index } of model.generateMany(from, { ...options, batchSize: 2 })) {
        expect(index).toBe(0);
        break;
      }
      expect(state).toEqual({ read: 2, closed: true });
      expect(seen.caches).toBe(0);
    });

    test("its error is the caller's", async () => {
      const broken = source(async (index) => {
        if (index === 3) throw new RangeError("the file is gone");
      });
      await expect(gather(model.generateMany(broken.prompts, options))).rejects.toThrow(
        new RangeError("the file is gone"),
      );
      expect(seen.caches).toBe(0);
    });

    test("an abort ends the wait for a prompt that never comes", async () => {
      const { prompts: from } = source((index) => (index < 1 ? Promise.resolve() : new Promise(() => {})));
      const controller = new AbortController();
      const results = model.generateMany(from, { ...options, signal: controller.signal });
      expect((await results.next()).value).toMatchObject({ index: 0 });
      setTimeout(() => controller.abort("enough"), 20);
      await expect(results.next()).rejects.toThrow(AbortError);
      expect(seen.caches).toBe(0);
    });
  });

  test("an abort throws from the iterator, and gives the memory back", async () => {
    const { memory } = device;
    for (const after of [0, 1, 3]) {
      const controller = new AbortController();
      const options = { ignoreEos: true, maxNewTokens: 40, batchSize: 4, signal: controller.signal };
      const results: GeneratedOne[] = [];
      const run = async () => {
        if (after === 0) setTimeout(() => controller.abort(), 0);
        for await (const one of model.generateMany(prompts, options))
          if (results.push(one) === after) controller.abort();
      };
      await expect(run()).rejects.toThrow(AbortError);
      if (after > 0) expect(results.length).toBe(after);
      else expect(results.length).toBeLessThan(prompts.length);
      expect(seen.caches).toBe(0);
      if (device.kind === "reference") expect(device.memory).toBe(memory);
    }
    const already = model.generateMany(prompts, { signal: AbortSignal.abort() });
    await expect(already.next()).rejects.toThrow(AbortError);
  });

  const badPrompts: [string, unknown, RegExp][] = [
    ["an id outside", { ids: [1, 261] }, /^prompt 2 \(counted from 0\): id 261 .* from 0 to 260/],
    ["no ids", { ids: [] }, /^prompt 2 .* empty/],
    ["too many", { ids: Array(49).fill(1) }, /^prompt 2 .* 49 tokens, but the model's context holds 48/],
    ["nothing", undefined, /^prompt 2 .* expected text, or ids/],
    ["no text", "", /^prompt 2 .* empty/],
  ];
  test.each(badPrompts)("a bad prompt: %s", async (_, bad, message) => {
    for (const batchSize of [1, 8]) {
      const list = [...prompts.slice(0, 2), bad as Prompt, ...prompts];
      const results: GeneratedOne[] = [];
      const run = async () => {
        for await (const one of model.generateMany(list, { maxNewTokens: 2, ignoreEos: true, batchSize }))
          results.push(one);
      };
      const error = await run().catch((error: unknown) => error);
      expect(error).toBeInstanceOf(InputError);
      expect((error as Error).message).toMatch(message);
      // One by one, those before it were done.
      expect(results.length).toBe(batchSize === 1 ? 2 : 0);
      expect(seen.caches).toBe(0);
    }
  });

  const bad: [object, RegExp][] = [
    [{ batchSize: 0 }, /batchSize: expected a whole number from 1, got 0/],
    [{ batchSize: 1.5 }, /batchSize: .* got 1.5/],
    [{ batchSize: "4" }, /batchSize: .* got "4"/],
    [{ alternatives: 2 }, /generateMany: unknown option "alternatives"/],
    [{ sequence: 1 }, /generateMany: unknown option "sequence"/],
    [{ topP: 2 }, /topP/],
    [{ suppressTokens: [999] }, /suppressTokens/],
    [{ stop: [""] }, /stop/],
  ];
  test.each(bad)("a bad option: %j", (options, message) => {
    expect(() => model.generateMany(prompts, options)).toThrow(message);
  });
  test.each([["the cat"], [{ ids: [1] }], [7], [null], [undefined]])("no list of prompts: %j", (given) => {
    expect(() => model.generateMany(given as unknown as Prompt[])).toThrow(
      /^prompts: expected a list of prompts.*\[prompt\]/,
    );
  });
});

describe.skipIf(!shared).each(devices.slice(1))("stories260K, many at once on %s", (_, open) => {
  let model: LanguageModel;
  let device: Device;
  beforeAll(async () => {
    device = await open();
    model = await NodeModel.load(sharedPath("models/stories260K"), { device });
  });
  afterAll(async () => {
    await model.close();
    await device.close();
  });
  const texts = [
    "Once upon a time",
    "Lily",
    "The big red ball was in the park, and every child wanted to play with it because",
    "Tom said",
    "One day a",
  ];
  const stories = Array.from({ length: 10 }, (_, i) => texts[i % texts.length]);

  test.each(ways)("%s: what each prompt gives alone, in batches of 1, 3 and 32", async (_, way) => {
    const options = { ...way, maxNewTokens: 12, stop: [". ", "ly"] };
    const want = await alone(model, stories, options);
    expect(new Set(want.map(({ ids }) => ids.length)).size).toBeGreaterThan(1);
    expect(want.some(({ finishReason }) => finishReason === "stop")).toBe(true);
    for (const batchSize of [1, 3, 32])
      expect(byIndex(await gather(model.generateMany(stories, { ...options, batchSize })))).toEqual(want);
  });
});
