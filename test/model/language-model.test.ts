import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../src/kernels/device.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { scoreWindows } from "../../src/model/score.js";
import type { GenerateOptions, LoadOptions, Piece } from "../../src/model/types.js";
import { devices } from "../devices.js";
import { byteTokenizerSize } from "../fixtures/byte-tokenizer.js";
import { type Bend, type TinyFamily, tinyFamilies, tinyModel, tinyRows } from "../fixtures/tiny-models.js";

const end = byteTokenizerSize - 1;
const prompt = { ids: [116, 104, 101, 32, 99, 97, 116] };

async function gather(pieces: AsyncIterable<Piece>): Promise<Piece[]> {
  const all: Piece[] = [];
  for await (const piece of pieces) all.push(piece);
  return all;
}

describe.each(devices)("a tiny model on %s", (_, open) => {
  let device: Device;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device.close());

  const load = (family: TinyFamily = "llama", bend?: Bend, options: LoadOptions = {}) =>
    LanguageModel.load(tinyModel(family, 1, bend), { device, ...options });

  describe("tying and padding", () => {
    test.each(tinyFamilies)("%s says what it is", async (family) => {
      const before = device.memory;
      const model = await load(family);
      const info = model.info();
      expect(info.tied).toBe(["gpt2", "qwen2", "gemma2"].includes(family));
      expect(info).toMatchObject({
        rows: tinyRows,
        vocabSize: byteTokenizerSize,
        paddedRows: 5,
        padding: "masked",
      });
      expect(info).toMatchObject({
        family,
        tokenizerSize: byteTokenizerSize,
        layers: 2,
        heads: 4,
        hiddenSize: 24,
      });
      expect(info.eosIds).toEqual([end]);
      const copies = info.tied ? 1 : 2;
      const bias = family === "phi" ? tinyRows : 0;
      expect(info.vocabularyParameters).toBe(copies * tinyRows * 24 + bias);
      expect(info.vocabularyShare).toBeCloseTo(info.vocabularyParameters / info.parameters, 12);
      const masked = await (await model.next(prompt)).top(byteTokenizerSize);
      expect(Math.max(...masked.map(({ id }) => id))).toBe(byteTokenizerSize - 1);
      await expect(model.next({ ids: [byteTokenizerSize] })).rejects.toThrow(
        new RegExp(`id ${byteTokenizerSize} .* from 0 to ${byteTokenizerSize - 1}`),
      );
      await model.close();
      await model.close();
      // What a device keeps for itself (buffers, vectors) is small beside a model's matrices.
      if (device.kind === "reference") expect(device.memory).toBe(before);
    });

    test("kept padding has the checkpoint's rows", async () => {
      const model = await load("gpt2", {}, { padded: "keep" });
      expect(model.info()).toMatchObject({ vocabSize: tinyRows, paddedRows: 5, padding: "kept" });
      expect((await (await model.next(prompt)).top(tinyRows)).length).toBe(tinyRows);
      await model.close();
    });

    test("an equal head tensor is one copy; a config's claim counts for nothing", async () => {
      const tie: Bend = {
        config: { tie_word_embeddings: false },
        tensors: (tensors) => {
          tensors["lm_head.weight"] = { ...tensors["model.embed_tokens.weight"] };
        },
      };
      const model = await load("llama", tie);
      expect(model.info()).toMatchObject({ tied: true });
      expect(model.info().howTied).toMatch(/equal byte for byte/);
      expect(model.head.weights.matrix).toBe(model.embedding.vocab.matrix);
      await model.close();
      const claims = await load("llama", { config: { tie_word_embeddings: true } });
      expect(claims.info()).toMatchObject({ tied: false });
      expect(claims.info().howTied).toMatch(
        /model.embed_tokens.weight and lm_head.weight are both present and differ/,
      );
      await claims.close();
    });

    test("only a head tensor serves as the embedding too", async () => {
      const drop: Bend = {
        tensors: (tensors) => {
          delete tensors["model.embed_tokens.weight"];
        },
      };
      const model = await load("llama", drop);
      expect(model.info().howTied).toBe(
        "lm_head.weight is the only vocabulary matrix; there is no model.embed_tokens.weight",
      );
      await model.close();
    });
  });

  describe("generate", () => {
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
      const greedy = await load("llama", config({ do_sample: false, max_new_tokens: 3, temperature: 0 }));
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
      const sampling = await load(
        "llama",
        config({ do_sample: true, temperature: 0.5, top_k: 5, top_p: 0.9 }),
      );
      expect(sampling.generationDefaults).toEqual({ greedy: false, temperature: 0.5, topK: 5, topP: 0.9 });
      await sampling.close();
      await expect(load("llama", config({ do_sample: true, temperature: "hot" }))).rejects.toThrow(
        /generation_config.json: temperature: expected a number above 0, got "hot"/,
      );
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

  describe("score", () => {
    test("is the sum of what next says", async () => {
      const model = await load("gemma2");
      const text = "the cat, théâtre";
      const ids = model.encode(text);
      const { tokens, sum, count, perplexity, bitsPerByte } = await model.score(text);
      expect(tokens.map(({ text }) => text).join("")).toBe(text);
      expect([tokens[0].logProb, tokens[0].rank]).toEqual([null, null]);
      let total = 0;
      for (let i = 1; i < ids.length; i++) {
        const distribution = await model.next({ ids: ids.slice(0, i) });
        expect(tokens[i].logProb!).toBeCloseTo(await distribution.logProb(ids[i]), 6);
        expect(tokens[i].rank).toBe(await distribution.rank(ids[i]));
        total += tokens[i].logProb!;
      }
      expect(count).toBe(ids.length - 1);
      expect(sum).toBeCloseTo(total, 9);
      expect(perplexity).toBeCloseTo(Math.exp(-total / count), 6);
      const first = new TextEncoder().encode(tokens[0].text).length;
      expect(bitsPerByte).toBeCloseTo(-total / Math.LN2 / (new TextEncoder().encode(text).length - first), 9);
      await model.close();
    });

    test("texts longer than the context by windows", async () => {
      const model = await load();
      const ids = Array.from({ length: 120 }, (_, i) => (i * 7) % 200);
      const { tokens, count } = await model.score({ ids });
      expect(count).toBe(119);
      expect(tokens.every(({ logProb }, i) => (logProb === null) === (i === 0))).toBe(true);
      // Context 48: windows of 49 tokens advance by 24, so token 60 is predicted from 24 on.
      const alone = await model.score({ ids: ids.slice(24, 61) });
      expect(tokens[60].logProb!).toBeCloseTo(alone.tokens.at(-1)!.logProb!, 6);
      await expect(model.score({ ids }, { window: 50 })).rejects.toThrow(/window: .* from 2 to 49, got 50/);
      await expect(model.score({ ids }, { window: 10, stride: 10 })).rejects.toThrow(
        /stride: .* from 1 to 9/,
      );
      await model.close();
    });

    test("one token predicts nothing", async () => {
      const model = await load();
      expect(await model.score({ ids: [5] })).toMatchObject({
        sum: 0,
        count: 0,
        perplexity: null,
        bitsPerByte: null,
      });
      await model.close();
    });
  });

  test("the likelihood of text of several tokens, by the chain rule", async () => {
    const model = await load();
    const distribution = await model.next(prompt);
    const { tokens } = await model.score({ ids: [...prompt.ids, 33, 34, 35] });
    const sum = tokens.slice(-3).reduce((sum, { logProb }) => sum + logProb!, 0);
    expect(await distribution.logProb('!"#')).toBeCloseTo(sum, 6);
    await expect(distribution.rank('!"#')).rejects.toThrow(/3 tokens/);
    await model.close();
  });

  test("a session grows, forks and forgets", async () => {
    const model = await load("qwen2");
    const rows = (await model.hidden({ ids: [1, 2, 3, 4, 5] })).hidden;
    const row = (n: number) => rows.subarray(n * 24, (n + 1) * 24);
    const session = model.session();
    expect(await session.feed([1, 2, 3])).toEqual(row(2));
    const fork = session.fork();
    await session.feed([9]);
    expect(await fork.feed([4, 5])).toEqual(row(4));
    expect(fork.ids).toEqual([1, 2, 3, 4, 5]);
    session.truncate(3);
    expect(await session.feed([4])).toEqual(row(3));
    expect([session.length, session.room]).toEqual([4, 44]);
    await expect(session.feed([])).rejects.toThrow(/no ids/);
    session.close();
    fork.close();
    await model.close();
  });

  test("prompts that are refused", async () => {
    const model = await load();
    const refused = (input: unknown, message: RegExp) =>
      expect(model.next(input as string)).rejects.toThrow(message);
    await refused("", /the prompt is empty/);
    await refused({ ids: [] }, /the prompt is empty/);
    await refused({ ids: [-1] }, /id -1 \(number 1 of the prompt\)/);
    await refused({ ids: [1, 2.5] }, /id 2.5 \(number 2/);
    await refused({ ids: Array(49).fill(1) }, /49 tokens, but the model's context holds 48/);
    await refused({ text: "x" }, /expected text, or ids/);
    await expect(model.hidden(prompt, { layers: [3] })).rejects.toThrow(/layers: .* from 0 to 2, got 3/);
    expect(await model.next([])).toEqual([]);
    await model.close();
  });

  test("no tokenizer: ids alone, no padding", async () => {
    const files = tinyModel("gpt2");
    const without = {
      ...files,
      open: async (path: string) => (path.startsWith("tokenizer") ? undefined : files.open(path)),
    };
    const model = await LanguageModel.load(without, { device });
    expect(model.info()).toMatchObject({ vocabSize: tinyRows, padding: "none", tokenizerSize: undefined });
    await expect(model.next("text")).rejects.toThrow(/no tokenizer/);
    await expect(gather(model.generate(prompt, { stop: "x" }))).rejects.toThrow(
      /stop: the model has no tokenizer/,
    );
    expect((await model.generateAll(prompt, { greedy: true, maxNewTokens: 2, ignoreEos: true })).text).toBe(
      "",
    );
    await model.close();
  });

  test("what cannot be loaded leaves nothing behind", async () => {
    const before = device.memory;
    const nan: Bend = {
      tensors: (tensors) => {
        (tensors["model.layers.1.mlp.down_proj.weight"].data as number[])[5] = Number.NaN;
      },
    };
    await expect(load("llama", nan)).rejects.toThrow(/model.layers.1.mlp.down_proj.weight.*NaN/);
    expect(device.memory).toBe(before);
    const controller = new AbortController();
    controller.abort();
    await expect(load("llama", {}, { signal: controller.signal })).rejects.toThrow(/aborted/);
    await expect(load("llama", {}, { padded: "no" as "mask" })).rejects.toThrow(
      /padded: expected mask or keep/,
    );
    await expect(load("llama", {}, { threads: 2 })).rejects.toThrow(/threads: an open device was given/);
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

test("windows predict each token but the first once", () => {
  for (let length = 1; length < 40; length++)
    for (let size = 2; size < 12; size++)
      for (let stride = 1; stride < size; stride++) {
        const predicted: number[] = [];
        for (const { start, end, predictFrom } of scoreWindows(length, size, stride)) {
          expect(end - start).toBeLessThanOrEqual(size);
          expect(predictFrom).toBeGreaterThan(start);
          for (let i = predictFrom; i < end; i++) predicted.push(i);
        }
        expect(predicted).toEqual(Array.from({ length: length - 1 }, (_, i) => i + 1));
      }
});
