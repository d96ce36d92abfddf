import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AbortError } from "../../src/errors.js";
import type { Device } from "../../src/kernels/device.js";
import { LanguageModel } from "../../src/model/language-model.js";
import type { LoadOptions } from "../../src/model/types.js";
import { devices } from "../devices.js";
import { byteTokenizerSize } from "../fixtures/byte-tokenizer.js";
import { type Bend, type TinyFamily, tinyFamilies, tinyModel, tinyRows } from "../fixtures/tiny-models.js";
import { end, gather, prompt } from "./tiny.js";

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
      expect(model.info().howTied).toMatch(
        /equal byte for byte.*; the config's tie_word_embeddings \(false, stated or by default\) says otherwise$/,
      );
      expect(model.head.weights.matrix).toBe(model.embedding.vocab.matrix);
      await model.close();
      const claims = await load("llama", { config: { tie_word_embeddings: true } });
      expect(claims.info()).toMatchObject({ tied: false });
      expect(claims.info().howTied).toMatch(
        /model.embed_tokens.weight and lm_head.weight are both present and differ.*\(true, stated or by default\)/,
      );
      await claims.close();
      const honest = await load("llama", { config: { tie_word_embeddings: false } });
      expect(honest.info().howTied).not.toMatch(/config/);
      await honest.close();
    });

    test("only a head tensor serves as the embedding too", async () => {
      const drop: Bend = {
        tensors: (tensors) => {
          delete tensors["model.embed_tokens.weight"];
        },
      };
      const model = await load("llama", drop);
      expect(model.info().howTied).toBe(
        "lm_head.weight is the only vocabulary matrix; there is no model.embed_tokens.weight; the config's tie_word_embeddings (false, stated or by default) says otherwise",
      );
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
    const options = { minP: 1e-6, temperature: 0.7, repetitionPenalty: 1.2 };
    let chain = 0;
    for (const [i, id] of [33, 34, 35].entries()) {
      const next = await model.next({ ids: [...prompt.ids, 33, 34, 35].slice(0, prompt.ids.length + i) });
      chain += await (await next.processed(options)).logProb(id);
    }
    expect(chain).toBeGreaterThan(-Infinity);
    expect(await (await distribution.processed(options)).logProb('!"#')).toBeCloseTo(chain, 6);
    await model.close();
  });

  test("reading on for a text of several tokens ends when its signal fires", async () => {
    const model = await load();
    const next = await model.next(prompt);
    const controller = new AbortController();
    const asked = next.logProb("sat", { signal: controller.signal });
    controller.abort();
    await expect(asked).rejects.toThrow(AbortError);
    expect(await next.logProb("sat", {})).toBeLessThan(0);
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
