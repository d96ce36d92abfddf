import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../src/kernels/device.js";
import { cacheLayout } from "../../src/kernels/wasm/cache.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { Runner } from "../../src/model/runner.js";
import { score, scoreWindows } from "../../src/model/score.js";
import type { LoadOptions } from "../../src/model/types.js";
import { devices } from "../devices.js";
import { type Bend, type TinyFamily, tinyModel } from "../fixtures/tiny-models.js";

describe.each(devices)("scoring by a tiny model on %s", (_, open) => {
  let device: Device;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device.close());

  const load = (family: TinyFamily = "llama", bend?: Bend, options: LoadOptions = {}) =>
    LanguageModel.load(tinyModel(family, 1, bend), { device, ...options });

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
    await expect(model.score({ ids }, { window: 10, stride: 10 })).rejects.toThrow(/stride: .* from 1 to 9/);
    await model.close();
  });

  test("windows are as long as memory allows", async () => {
    if (device.kind !== "wasm") return;
    const ids = Array.from({ length: 90 }, (_, i) => (i * 7) % 200);
    const plain = await load();
    const [whole, small] = [await plain.score({ ids }), await plain.score({ ids }, { window: 33 })];
    expect(small.sum).not.toBe(whole.sum);
    // Room for one block of 32 positions.
    const block = cacheLayout(plain.runner.program).bytes;
    const full = Object.create(device, { memory: { get: () => 3.875 * 2 ** 30 - 1.5 * block } }) as Device;
    const runner = new Runner(full, plain.runner.body, plain.embedding);
    const { head, tokenizer } = plain;
    const tight = (length: number, options = {}) =>
      score({ runner, head, tokenizer }, { ids: ids.slice(0, length) }, options);
    expect((await tight(90)).sum).toBe(small.sum);
    await expect(tight(90, { window: 40 })).rejects.toThrow(
      /window: the keys and values of 40 tokens do not fit .* expected at most 33, got 40/,
    );
    // A window longer than the text takes no more than the text.
    expect((await tight(20, { window: 49 })).count).toBe(19);
    await plain.close();
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
