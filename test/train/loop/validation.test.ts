import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../../src/kernels/device.js";
import { openDevice } from "../../../src/kernels/open.js";
import { LanguageModel } from "../../../src/node.js";
import { IGNORE } from "../../../src/train/data/batches.js";
import { Corpus } from "../../../src/train/data/documents.js";
import { corpusTokenizer } from "../../../src/train/loop/corpus-tokenizer.js";
import { openData, openTexts, type TrainingData } from "../../../src/train/loop/data.js";
import { fillSettings, type TrainSettings } from "../../../src/train/loop/settings.js";
import { tokenizerOf } from "../../../src/train/loop/tokenizer-files.js";
import { train } from "../../../src/train/loop/train.js";
import { trainBpe } from "../../../src/train/tokenizer/train-bpe.js";
import { corpus, documents, folder, freshOut, metricsOf, settings, write } from "./runs.js";

let device: Device;
beforeAll(async () => {
  device = await openDevice({ device: "wasm", threads: 1 });
});
afterAll(() => device.close());

describe("bits per byte", () => {
  test("and loss are those that the model's score gives the same text", async () => {
    // One document, read in one window: what is validated on is its text and the end of it.
    const held = "the cat sat on a mat, é, 猫 and the dog ran";
    const out = freshOut();
    const given = { ...settings, contextLength: 128, validationCorpus: write("held.txt", held) };
    const { steps: _, validateEvery: __, ...rest } = given;
    await train({ corpus, out, settings: { ...rest, steps: 5, validateEvery: 5, batchSize: 1 }, device });
    const told = metricsOf(out).findLast(({ type }) => type === "validation")!;
    const model = await LanguageModel.load(join(out, "best"), { device });
    const ids = model.encode(held);
    expect(ids.length).toBeLessThan(120);
    // encode puts the end of text before; training predicts it after the document too.
    const whole = await model.score({ ids: [...ids, model.eosIds[0]] });
    const bits = -whole.sum / Math.LN2 / Buffer.byteLength(held);
    expect(Math.abs((told.loss as number) - -whole.sum / whole.count)).toBeLessThan(1e-5);
    expect(Math.abs((told.perplexity as number) / whole.perplexity! - 1)).toBeLessThan(1e-5);
    expect(Math.abs((told.bitsPerByte as number) / bits - 1)).toBeLessThan(1e-5);
    // Without the end of text both count the same bytes.
    const text = await model.score({ ids });
    expect(Math.abs(text.bitsPerByte! / (-text.sum / Math.LN2 / Buffer.byteLength(held)) - 1)).toBeLessThan(
      1e-9,
    );
    await model.close();
  });
});

/** What a run with these settings trains and validates on, as texts; and its tokenizer. */
async function parts(path: string, given: TrainSettings) {
  const filled = fillSettings("test", given);
  const nothing = () => {};
  const tokenizer = await corpusTokenizer(
    await Corpus.open(path, { split: filled.split }),
    filled,
    true,
    nothing,
    undefined,
  );
  const texts = await openTexts(path, filled, undefined);
  const data = await openData(texts, tokenizer, filled, join(folder, "ids"), nothing, undefined);
  const textOf = async (batches: TrainingData["training"]) => {
    let text = "";
    let predicted = 0;
    for await (const { ids, targets } of batches.inOrder())
      for (const target of targets)
        if (target !== IGNORE) {
          // The very first token is read, and predicted nowhere.
          if (predicted === 0) text += tokenizer.tokenizer.decode([ids[0]]);
          text += tokenizer.tokenizer.decode([target]);
          predicted++;
        }
    return text;
  };
  const [training, validation] = [await textOf(data.training), await textOf(data.validation)];
  await data.close();
  return { training, validation, vocab: tokenizer.texts.get("tokenizer.json")! };
}

test("a document begins with what its tokenizer puts before a text, as what the model is asked does", async () => {
  const { json } = await trainBpe(documents(10), { vocabSize: 275, specialTokens: ["<s>", "</s>"] });
  const begin = { SpecialToken: { id: "<s>", type_id: 0 } };
  const sequence = { Sequence: { id: "A", type_id: 0 } };
  const special_tokens = { "<s>": { id: "<s>", ids: [0], tokens: ["<s>"] } };
  const post_processor = {
    type: "TemplateProcessing",
    single: [begin, sequence],
    pair: [begin, sequence],
    special_tokens,
  };
  const tokenizer = tokenizerOf(
    "given",
    new Map([
      ["tokenizer.json", JSON.stringify({ ...json, post_processor })],
      ["tokenizer_config.json", JSON.stringify({ bos_token: "<s>", eos_token: "</s>" })],
    ]),
  );
  const filled = fillSettings("test", { ...settings, validation: 0.3 });
  const texts = await openTexts(corpus, filled, undefined);
  const data = await openData(texts, tokenizer, filled, join(folder, "ids"), () => {}, undefined);
  const [read, predicted] = [[] as number[], [] as number[]];
  for await (const { ids, targets } of data.validation.inOrder()) {
    read.push(...ids);
    predicted.push(...targets);
  }
  await data.close();
  const { tokenizer: t } = tokenizer;
  const first = t.decode(read.slice(0, read.indexOf(1)), { skipSpecialTokens: true });
  expect(documents(40)).toContain(first);
  expect(read.slice(0, read.indexOf(1))).toEqual(t.encode(first));
  expect(read[0]).toBe(0);
  expect(predicted).toContain(1);
  expect(predicted).not.toContain(0);
});

describe("what is kept to validate", () => {
  const small = { vocabSize: 270, contextLength: 8, batchSize: 1, hiddenSize: 8, heads: 1 } as const;

  test.each([0, 1, 2, 3])(
    "is whole documents that neither training nor tokenizer sees (seed %i)",
    async (seed) => {
      // Each document has a word of its own, over and over: a tokenizer that sees it learns it.
      const own = Array.from({ length: 12 }, (_, i) => String.fromCharCode(97 + i).repeat(3));
      const path = write("own.txt", own.map((word) => `${word}zz `.repeat(50).trim()).join("\n\n"));
      const given = { ...small, split: "blank-lines", validation: 0.3, seed } as const;
      const { training, validation, vocab } = await parts(path, given);
      const held = own.filter((word) => validation.includes(word));
      expect(held.length).toBeGreaterThan(0);
      expect(held.length).toBeLessThan(12);
      for (const word of own) {
        expect(training.includes(word)).toBe(!held.includes(word));
        const merged = new RegExp(`"Ġ?${word[0]}{2,3}[^"]*"`).test(vocab);
        if (held.includes(word)) expect(merged, `${word} in the tokenizer`).toBe(false);
      }
      // Not vacuous: what is trained on does reach the tokenizer.
      expect(own.some((word) => new RegExp(`"Ġ?${word[0]}{2,3}`).test(vocab))).toBe(true);
    },
  );

  test("is the end of a single document, even where ids stand for ever more characters", async () => {
    // Tokens of the first part are single letters; those of the second whole words: a twentieth of the ids is then a
    // quarter of the characters and more.
    const letters = documents(1, 9)[0].replace(/[^a-z]/g, "");
    let first = "";
    for (let i = 0; first.length < 6000; i++)
      first += letters[(i * i * 7 + i) % letters.length] + String(i % 10);
    const second = Array.from({ length: 700 }, (_, i) => `internationalisation${i >= 500 ? "q" : ""} `).join(
      "",
    );
    const path = write("single.txt", first + second);
    const given = { ...small, vocabSize: 274, validation: 0.05 };
    const { training, validation, vocab } = await parts(path, given);
    const whole = first + second;
    const text = validation.replace("<|endoftext|>", "");
    expect(text.length).toBeGreaterThan(20);
    expect(whole.endsWith(text)).toBe(true);
    // The tokenizer has read these characters at most (a fiftieth less than the rest), and training none of the end.
    const read = Math.ceil(whole.length * 0.95 * 0.98);
    expect(whole.length - text.length).toBeGreaterThanOrEqual(read - 25);
    expect(training.length + text.length).toBeLessThan(whole.length);
    expect(whole.startsWith(training.replace("<|endoftext|>", ""))).toBe(true);
    expect(vocab).toContain("internationalisation");
  });
});
