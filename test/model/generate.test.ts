import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../src/kernels/device.js";
import { LanguageModel } from "../../src/model/language-model.js";
import type { GenerateOptions, LoadOptions, Piece } from "../../src/model/types.js";
import { devices } from "../devices.js";
import { type Bend, type TinyFamily, tinyModel } from "../fixtures/tiny-models.js";
import { end, gather, prompt } from "./tiny.js";

describe.each(devices)("generation by a tiny model on %s", (_, open) => {
  let device: Device;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device.close());

  const load = (family: TinyFamily = "llama", bend?: Bend, options: LoadOptions = {}) =>
    LanguageModel.load(tinyModel(family, 1, bend), { device, ...options });

  test("greedy pieces are the likeliest tokens with raw log-probabilities", async () => {
    const model = await load();
    const pieces = await gather(
      model.generate(prompt, {
        greedy: true,
        ignoreEos: true,
        maxNewTokens: 6,
        alternatives: 3,
        rank: true,
      }),
    );
    expect(pieces.length).toBe(6);
    const ids = [...prompt.ids];
    for (const piece of pieces) {
      const distribution = await model.next({ ids });
      const top = await distribution.top(3);
      expect(piece.id).toBe(top[0].id);
      expect(piece.rank).toBe(1);
      expect(piece.logProb).toBeCloseTo(top[0].logProb, 9);
      expect(piece.alternatives!.map(({ id }) => id)).toEqual(top.map(({ id }) => id));
      expect(piece.alternatives![2].logProb).toBeCloseTo(top[2].logProb, 9);
      ids.push(piece.id);
    }
    expect(pieces.map(({ finishReason }) => finishReason)).toEqual([...Array(5).fill(undefined), "length"]);
    await model.close();
  });

  const ways: [string, GenerateOptions][] = [
    ["plain", { temperature: 1.3 }],
    ["top-k", { topK: 20 }],
    ["top-p", { topP: 0.8, temperature: 0.9 }],
    ["min-p and a penalty", { minP: 0.05, repetitionPenalty: 1.3 }],
  ];
  test.each(ways)(
    "a sample (%s) has its own probability beside it, and a seed fixes it",
    async (_, options) => {
      const model = await load();
      const seeded = { ...options, seed: 7, ignoreEos: true, maxNewTokens: 12 };
      const made = await model.generateAll(prompt, seeded);
      const { tokens } = await model.score({ ids: [...prompt.ids, ...made.ids] });
      const scored = tokens.slice(prompt.ids.length).map(({ logProb }) => logProb!);
      for (const [i, logProb] of made.logProbs.entries()) expect(logProb).toBeCloseTo(scored[i], 5);
      expect((await model.generateAll(prompt, seeded)).ids).toEqual(made.ids);
      const listing = { ...seeded, alternatives: 2, rank: true };
      expect((await model.generateAll(prompt, listing)).ids).toEqual(made.ids);
      expect((await model.generateAll(prompt, { ...seeded, seed: 8 })).ids).not.toEqual(made.ids);
      expect((await model.generateAll(prompt, { ...seeded, sequence: 1 })).ids).not.toEqual(made.ids);
      await model.close();
    },
  );

  test("an end token ends it, and its text is not given out", async () => {
    const model = await load();
    const free = await model.generateAll(prompt, { seed: 3, ignoreEos: true, maxNewTokens: 5 });
    await model.close();
    const ending = await load("llama", {
      files: { "generation_config.json": JSON.stringify({ eos_token_id: [end, free.ids[3]] }) },
    });
    const made = await ending.generateAll(prompt, { seed: 3 });
    expect(made.ids).toEqual(free.ids.slice(0, free.ids.indexOf(free.ids[3]) + 1));
    expect(made.finishReason).toBe("eos");
    expect(made.text).toBe(ending.tokenizer!.decode(made.ids.slice(0, -1)));
    await ending.close();
  });

  test("stop strings, across tokens, are never printed", async () => {
    const model = await load();
    const options = { seed: 5, ignoreEos: true, maxNewTokens: 30 };
    const free = await model.generateAll(prompt, options);
    const at = Math.floor(free.text.length / 2);
    const stop = free.text.slice(at, at + 2);
    const made = await model.generateAll(prompt, { ...options, stop: ["never, surely", stop] });
    expect(made.finishReason).toBe("stop");
    expect(made.text).toBe(free.text.slice(0, free.text.indexOf(stop)));
    expect(free.ids.slice(0, made.ids.length)).toEqual(made.ids);
    await model.close();
  });

  test("pieces joined are the text, and none ends inside a character", async () => {
    const model = await load();
    const pieces = await gather(
      model.generate(prompt, { temperature: 3, seed: 1, ignoreEos: true, maxNewTokens: 40 }),
    );
    const text = pieces.map((piece) => piece.text).join("");
    const ids = pieces.map(({ id }) => id).filter((id) => id !== end);
    expect(text).toBe(model.tokenizer!.decode(ids));
    await model.close();
  });

  test("it ends where the context does", async () => {
    const model = await load();
    const ids = Array.from({ length: 45 }, (_, i) => i);
    const made = await model.generateAll({ ids }, { ignoreEos: true, greedy: true });
    // Positions 45 to 47 are read; one more token is predicted from the last of them.
    expect(made.ids.length).toBe(4);
    expect(made.finishReason).toBe("length");
    const full = Array.from({ length: 48 }, (_, i) => i);
    expect((await model.generateAll({ ids: full }, { ignoreEos: true })).ids.length).toBe(1);
    await model.close();
  });

  test("an abort throws from the iterator and ends generateAll with what there is", async () => {
    const model = await load();
    const controller = new AbortController();
    const seen: Piece[] = [];
    const run = async () => {
      for await (const piece of model.generate(prompt, { signal: controller.signal, ignoreEos: true })) {
        seen.push(piece);
        if (seen.length === 3) controller.abort();
      }
    };
    await expect(run()).rejects.toThrow(/aborted/);
    expect(seen.length).toBe(3);
    const made = await model.generateAll(prompt, { signal: controller.signal });
    expect(made).toMatchObject({ ids: [], text: "", finishReason: "abort" });
    await model.close();
  });

  test("generation_config.json fills what no option says", async () => {
    const config = (json: object): Bend => ({ files: { "generation_config.json": JSON.stringify(json) } });
    const zero = { do_sample: false, max_new_tokens: 3, temperature: 0, top_p: 0, top_k: 0 };
    const greedy = await load("llama", config(zero));
    expect(greedy.generationDefaults).toEqual({ greedy: true, maxNewTokens: 3 });
    const made = await greedy.generateAll(prompt, { ignoreEos: true });
    expect(made.ids.length).toBe(3);
    expect(made.ids[0]).toBe((await (await greedy.next(prompt)).top(1))[0].id);
    const sampled = { seed: 11, maxNewTokens: 8, ignoreEos: true };
    const asked = await greedy.generateAll(prompt, sampled);
    await greedy.close();
    const plain = await load();
    expect(asked.ids).toEqual((await plain.generateAll(prompt, sampled)).ids);
    await plain.close();
    const sampling = await load("llama", config({ do_sample: true, temperature: 0.5, top_k: 5, top_p: 0.9 }));
    expect(sampling.generationDefaults).toEqual({ greedy: false, temperature: 0.5, topK: 5, topP: 0.9 });
    await sampling.close();
    await expect(load("llama", config({ do_sample: true, temperature: "hot" }))).rejects.toThrow(
      /generation_config.json: temperature: expected a number above 0, got "hot"/,
    );
  });

  test.each([{}, { do_sample: false }, { do_sample: null }])(
    "a file that says %j is greedy, and its filters hold for who asks for a sample",
    async (file) => {
      const filters = { temperature: 0.5, top_k: 4, top_p: 0.9, min_p: 0.01 };
      const json = JSON.stringify({ ...file, ...filters, max_new_tokens: 8 });
      const model = await load("llama", { files: { "generation_config.json": json } });
      const made = async (options: GenerateOptions) =>
        (await model.generateAll(prompt, { ignoreEos: true, maxNewTokens: 8, ...options })).ids;
      expect(await made({})).toEqual(await made({ greedy: true }));
      const all = { temperature: 0.5, topK: 4, topP: 0.9, minP: 0.01 };
      const asked: GenerateOptions[] = [{ seed: 5 }, { greedy: false, seed: 5 }, { temperature: 2, seed: 5 }];
      for (const options of asked) expect(await made(options)).toEqual(await made({ ...all, ...options }));
      // What the filters leave out would be drawn without them.
      const off = { temperature: 1, topK: 0, topP: 1, minP: 0 };
      expect(await made({ seed: 5 })).not.toEqual(await made({ ...off, seed: 5 }));
      expect(await made({ greedy: false })).toEqual(await made({ seed: 0 }));
      await model.close();
    },
  );

  test("a file that says nothing of it is greedy too, as in transformers", async () => {
    const model = await load("llama", { files: { "generation_config.json": '{ "eos_token_id": 3 }' } });
    const [{ id }] = await (await model.next(prompt)).top(1);
    expect((await model.generateAll(prompt, { maxNewTokens: 1 })).ids).toEqual([id]);
    await model.close();
  });

  const bad: [object, RegExp][] = [
    [{ maxNewTokens: 0 }, /maxNewTokens: expected a whole number from 1, got 0/],
    [{ maxNewTokens: 1.5 }, /got 1.5/],
    [{ temperature: 0 }, /temperature: expected a number above 0/],
    [{ topP: 1.1 }, /topP/],
    [{ topK: -1 }, /topK/],
    [{ minP: 2 }, /minP/],
    [{ seed: -1 }, /seed/],
    [{ stop: "" }, /stop: expected/],
    [{ alternatives: -1 }, /alternatives/],
    [{ temprature: 1 }, /unknown option "temprature"/],
  ];
  test.each(bad)("options out of range: %j", async (options, message) => {
    const model = await load();
    expect(() => model.generate(prompt, options)).toThrow(message);
    await expect(model.generateAll(prompt, options)).rejects.toThrow(message);
    await model.close();
  });
});

test("the same seed gives the same text whatever the threads", async () => {
  const texts: number[][] = [];
  for (const [, open] of devices.slice(1)) {
    const device = await open();
    const model = await LanguageModel.load(tinyModel("gpt_neox"), { device });
    texts.push(
      (await model.generateAll(prompt, { seed: 42, topP: 0.95, ignoreEos: true, maxNewTokens: 30 })).ids,
    );
    await model.close();
    await device.close();
  }
  expect(texts[1]).toEqual(texts[0]);
});
