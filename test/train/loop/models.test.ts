import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AbortError, InputError } from "../../../src/errors.js";
import type { Device } from "../../../src/kernels/device.js";
import { openDevice } from "../../../src/kernels/open.js";
import { placeModel } from "../../../src/model/load.js";
import { LanguageModel } from "../../../src/node.js";
import { writeModel } from "../../../src/train/loop/model-folder.js";
import { optimizerOf } from "../../../src/train/loop/optimizer.js";
import { fillSettings, type TrainSettings } from "../../../src/train/loop/settings.js";
import { train } from "../../../src/train/loop/train.js";
import { openTrainable, type Trainable } from "../../../src/train/loop/trainable.js";
import { Trainer } from "../../../src/train/trainer/trainer.js";
import { tinyConfig, tinyFamilies } from "../../fixtures/tiny-models.js";
import { corpus, freshOut, metricsOf, settings, tinyFolder, tree } from "./runs.js";

let device: Device;
beforeAll(async () => {
  device = await openDevice({ device: "wasm", threads: 2 });
});
afterAll(() => device.close());

const fresh = { ...settings, heads: 1, prompts: [], layers: 2 } satisfies TrainSettings;
/** Of a run that goes on from a folder: its sizes and tokenizer are the folder's. */
const { vocabSize: _v, hiddenSize: _d, layers: _l, heads: _h, ...tuning } = fresh;
const ids = [5, 7, 11, 7, 2, 9, 0, 3];

interface Opened {
  readonly trainable: Trainable;
  readonly model: LanguageModel;
  readonly trainer: Trainer;
}

async function open(given: TrainSettings): Promise<Opened> {
  const filled = fillSettings("test", given);
  const trainable = await openTrainable(corpus, filled, undefined, true, () => {}, undefined);
  const frozen = filled.freeze === "body";
  const model = new LanguageModel(await placeModel(trainable.opened, { device, weights: "float32" }, frozen));
  return { trainable, model, trainer: await Trainer.create(model, optimizerOf(filled)) };
}

async function learn(trainer: Trainer, steps: number): Promise<number[]> {
  const targets = Int32Array.from([...ids.slice(1), 4]);
  const batch = { ids: Int32Array.from(ids), targets, segments: Int32Array.of(5, 3), size: 1, predicted: 8 };
  const losses: number[] = [];
  for (let s = 0; s < steps; s++) losses.push((await trainer.step([batch], 0.01)).loss);
  return losses;
}

async function save({ trainable, model }: Opened): Promise<string> {
  const path = freshOut();
  mkdirSync(path);
  await writeModel(path, trainable.folder(model));
  return path;
}

const logitsOf = async (model: LanguageModel) => (await model.next({ ids })).logits();

/** A saved model answers as the one in memory does, to the bit. */
async function expectSame(opened: Opened, path: string): Promise<LanguageModel> {
  const loaded = await LanguageModel.load(path, { device });
  expect(await logitsOf(loaded)).toEqual(await logitsOf(opened.model));
  // What was learnt reaches the copy that top-k is screened by, too.
  const top = (model: LanguageModel) => model.next({ ids }).then((next) => next.top(5));
  expect(await top(loaded)).toEqual(await top(opened.model));
  return loaded;
}

describe.each(tinyFamilies)("a new %s", (family) => {
  test.each([true, false])("learns, is saved and loads again (tied: %s)", async (tied) => {
    const opened = await open({ ...fresh, family, tied });
    const before = await logitsOf(opened.model);
    const losses = await learn(opened.trainer, 12);
    expect(losses[11]).toBeLessThan(losses[0] - 0.5);
    expect(await logitsOf(opened.model)).not.toEqual(before);
    const loaded = await expectSame(opened, await save(opened));
    expect(loaded.info()).toMatchObject({ family, tied });
    expect(loaded.info().formats.map(({ type }) => type)).toEqual(["f32"]);
    await loaded.close();
  });
});

describe.each(tinyFamilies)("a %s that is tuned", (family) => {
  test.each(["F32", "BF16", "F16"] as const)("from %s keeps its files and loads again", async (dtype) => {
    const init = await tinyFolder(family, dtype);
    const opened = await open({ ...tuning, init });
    const [given, start] = await Promise.all([
      LanguageModel.load(init, { device }).then(logitsOf),
      logitsOf(opened.model),
    ]);
    // The same model, but for Gemma's embedding scale, which is rounded to the stored type; and for the products.
    const far = Math.max(...given.map((x, i) => Math.abs(x - start[i])));
    expect(far).toBeLessThan(dtype === "F32" ? 1e-5 : 0.2);
    const losses = await learn(opened.trainer, 8);
    expect(losses[7]).toBeLessThan(losses[0] - 0.2);
    const path = await save(opened);
    await (await expectSame(opened, path)).close();
    for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json"])
      expect(readFileSync(join(path, name), "utf8"), name).toBe(readFileSync(join(init, name), "utf8"));
  });

  test("with its body frozen changes its head alone, which is its own then", async () => {
    const init = await tinyFolder(family, "BF16");
    const opened = await open({ ...tuning, init, freeze: "body" });
    const vectors = family === "phi" ? ["head.weight", "head.bias"] : ["head.weight"];
    expect(opened.trainer.parameters.map(({ name }) => name)).toEqual(vectors);
    const tied = (await LanguageModel.load(init, { device })).info().tied;
    expect(tied).toBe(!["llama", "gpt_neox", "phi"].includes(family));
    const untouched = await save(opened);
    const losses = await learn(opened.trainer, 8);
    expect(losses[7]).toBeLessThan(losses[0]);
    const path = await save(opened);
    const loaded = await expectSame(opened, path);
    expect(loaded.info().tied).toBe(false);
    expect(JSON.parse(readFileSync(join(path, "config.json"), "utf8")).tie_word_embeddings).toBe(false);
    // The body is the same in every bit: only the head's tensors differ.
    const [before, after] = await Promise.all(
      [untouched, path].map((at) => LanguageModel.load(at, { device })),
    );
    const hidden = async (model: LanguageModel) => (await model.hidden({ ids })).hidden;
    expect(await hidden(after)).toEqual(await hidden(before));
    expect(await logitsOf(after)).not.toEqual(await logitsOf(before));
    for (const model of [loaded, before, after]) await model.close();
  });
});

describe("a folder's files", () => {
  const config = `{
  "architectures": ["Gemma2ForCausalLM"],
  "final_logit_softcapping": 30.0,
  "attn_logit_softcapping": 50.0,
  "dtype": "bfloat16",
  "torch_dtype": "bfloat16",
  "query_pre_attn_scalar": 12,
  "hidden_activation": "gelu_pytorch_tanh",\r
  ${JSON.stringify(tinyConfig("gemma2")).slice(1)}
`;

  test("are kept as they stand, but for the weights' type and the tying", async () => {
    const texts = {
      "config.json": config,
      "generation_config.json": '{"temperature": 1.0, "do_sample": true}\n',
      "special_tokens_map.json": '{ "eos_token": "<|end|>"}',
      "chat_template.jinja": "{{ bos_token }}",
      "README.md": "not of the model",
    };
    const init = await tinyFolder("gemma2", "BF16", texts);
    const path = await save(await open({ ...tuning, init, freeze: "body" }));
    const wanted = config
      .replaceAll('"bfloat16"', '"float32"')
      .replace(/\}\n$/, ',\n  "tie_word_embeddings": false}\n');
    expect(readFileSync(join(path, "config.json"), "utf8")).toBe(wanted);
    expect(wanted).toContain("30.0");
    for (const name of ["generation_config.json", "special_tokens_map.json", "chat_template.jinja"] as const)
      expect(readFileSync(join(path, name), "utf8")).toBe(texts[name]);
    expect(readdirSync(path)).not.toContain("README.md");
  });

  test("stay the same from checkpoint to checkpoint, and a run from them goes on exactly", async () => {
    const init = await tinyFolder("gemma2", "F16", { "config.json": config });
    for (const freeze of ["nothing", "body"] as const) {
      const given = { ...tuning, init, freeze, steps: 6, prompts: ["the cat"] };
      const [straight, stopped] = [freshOut(), freshOut()];
      await train({ corpus, out: straight, settings: given, device });
      const controller = new AbortController();
      const run = train({
        corpus,
        out: stopped,
        settings: given,
        device,
        signal: controller.signal,
        onStep: (step) => step === 3 && controller.abort(),
      });
      await expect(run).rejects.toThrow(AbortError);
      await train({ out: stopped, resume: true, device });
      expect(tree(stopped), freeze).toEqual(tree(straight));
      expect(tree(straight).get("best/config.json")).toContain('"final_logit_softcapping": 30.0,');
      const losses = metricsOf(straight).filter(({ type }) => type === "validation");
      expect(losses[1].loss as number).toBeLessThan(losses[0].loss as number);
    }
  });

  test("rows and biases beyond the tokenizer's ids are written as they were read", async () => {
    const init = await tinyFolder("phi");
    const opened = await open({ ...tuning, init });
    expect(opened.model.info()).toMatchObject({ vocabSize: 261, rows: 266 });
    await learn(opened.trainer, 2);
    const tensors = opened.trainable.folder(opened.model).tensors;
    const bias = await tensors.find(({ name }) => name === "lm_head.bias")!.read();
    const stored = opened.trainable.opened.spec.head.bias!;
    expect(bias.slice(261)).toEqual(stored.slice(261));
    expect(bias.slice(0, 261)).not.toEqual(stored.slice(0, 261));
  });

  test("of another tokenizer's folder are written with a new model", async () => {
    const folder = await tinyFolder("llama", "F32", { "special_tokens_map.json": "{ }" });
    // A tokenizer needs no model beside it.
    for (const name of ["config.json", "model.safetensors"]) rmSync(join(folder, name));
    const { vocabSize: _, ...rest } = fresh;
    const opened = await open({ ...rest, tokenizer: folder });
    expect(opened.model.info()).toMatchObject({ vocabSize: 261, rows: 261 });
    const path = await save(opened);
    for (const name of ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
      expect(readFileSync(join(path, name), "utf8")).toBe(readFileSync(join(folder, name), "utf8"));
  });
});

describe("a folder to go on from is refused", () => {
  const start = (init: string, more: TrainSettings = {}) =>
    train({ corpus, out: freshOut(), settings: { ...tuning, init, ...more }, device });
  const refused = async (promise: Promise<unknown>, message: RegExp) => {
    await expect(promise).rejects.toThrow(InputError);
    await expect(promise).rejects.toThrow(message);
  };

  test("when its architecture is not supported", async () => {
    const config = JSON.stringify({
      ...tinyConfig("llama"),
      model_type: "mamba",
      architectures: ["MambaForCausalLM"],
    });
    await refused(
      start(await tinyFolder("llama", "F32", { "config.json": config })),
      /Mamba.*not supported; supported are/,
    );
  });
  test("when its tokenizer has more tokens than it has rows", async () => {
    const more = JSON.parse(readFileSync(join(await tinyFolder("llama"), "tokenizer.json"), "utf8"));
    for (let id = 261; id < 300; id++)
      more.added_tokens.push({ ...more.added_tokens[0], id, content: `<${id}>` });
    const init = await tinyFolder("llama", "F32", { "tokenizer.json": JSON.stringify(more) });
    await refused(start(init), /tokenizer has 300 tokens, its embedding 266 rows/);
  });
  test("when it has no tokenizer", async () => {
    const init = await tinyFolder("llama");
    rmSync(join(init, "tokenizer.json"));
    await refused(start(init), /has no tokenizer\.json/);
  });
  test("when its weights are cut, or its config is damaged", async () => {
    const init = await tinyFolder("llama");
    writeFileSync(
      join(init, "model.safetensors"),
      readFileSync(join(init, "model.safetensors")).subarray(0, 5000),
    );
    await refused(start(init), /model\.safetensors/);
    writeFileSync(join(init, "config.json"), "{");
    await refused(start(init), /config\.json: is not valid JSON/);
  });
  test("when its context is shorter than the training sequences", async () => {
    await refused(
      start(await tinyFolder("gpt2"), { contextLength: 49 }),
      /contextLength: 49, but the context of .* has 48 positions; set it to at most that/,
    );
  });
  test("when it is a file, or nothing", async () => {
    await refused(
      start(corpus),
      /expected a Hugging Face folder .*, got a file; no run begins with a GGUF file/,
    );
    await refused(start(join(corpus, "nothing")), /no such file or folder/);
  });
  test("and so is a folder without a tokenizer", async () => {
    const { vocabSize: _, ...rest } = fresh;
    const settings = { ...rest, tokenizer: freshOut() };
    await refused(
      train({ corpus, out: freshOut(), settings, device }),
      /expected a folder with a tokenizer\.json, got nothing/,
    );
    mkdirSync(settings.tokenizer);
    await refused(train({ corpus, out: freshOut(), settings, device }), /has no tokenizer\.json/);
  });
});
