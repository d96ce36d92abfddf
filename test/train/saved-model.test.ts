import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../src/kernels/device.js";
import { bytesSource } from "../../src/model/formats/files.js";
import type { LanguageModel as Loaded } from "../../src/model/language-model.js";
import {
  exportGguf,
  folderFiles,
  InputError,
  LanguageModel,
  loadTokenizer,
  memoryFiles,
  modelFiles,
  openDevice,
  randomModel,
  saveModel,
  Trainer,
  tokenizerFromJson,
} from "../../src/node.js";
import { byteTokenizer, byteTokenizerSize, endToken } from "../fixtures/byte-tokenizer.js";
import { makeGguf } from "../fixtures/make-gguf.js";
import { scoredGguf } from "../fixtures/make-tokenizer.js";
import { tinyGguf } from "../fixtures/tiny-gguf.js";
import { type TinyFamily, tinyFamilies, tinyModel } from "../fixtures/tiny-models.js";
import { freshOut, tinyFolder, tree } from "./loop/runs.js";
import { batchOf } from "./model.js";

let device: Device;
beforeAll(async () => {
  device = await openDevice({ device: "wasm", threads: 2 });
});
afterAll(() => device.close());

const ids = [5, 7, 11, 7, 2, 9, 0, 3];
const tokenizer = tokenizerFromJson("bytes", byteTokenizer(), { eos_token: endToken });

/** Changes every parameter. */
async function learn(model: Loaded): Promise<void> {
  const trainer = await Trainer.create(model);
  const batch = batchOf([5, 3], ids, [...ids.slice(1), 4]);
  for (let step = 0; step < 3; step++) await trainer.step([batch], 0.01);
  trainer.free();
}

const logitsOf = async (model: Loaded) => (await model.next({ ids })).logits();

/** What a model says of itself but for where it came from. */
function facts(model: Loaded) {
  const { name: _name, memory: _memory, formats: _formats, ...rest } = model.info();
  return rest;
}

/** Both ways to keep a model give it again, to the bit. */
async function expectSaved(
  model: Loaded,
): Promise<{ files: Record<string, string | Uint8Array>; path: string }> {
  const files = await modelFiles(model);
  const path = freshOut();
  await saveModel(model, path);
  const inMemory = Object.entries(files).map(([name, file]) => [name, Buffer.from(file).toString("latin1")]);
  expect(tree(path)).toEqual(new Map(inMemory.sort(([a], [b]) => (a < b ? -1 : 1)) as [string, string][]));
  for (const given of [memoryFiles("again", files), path]) {
    const again = await LanguageModel.load(given, { device });
    expect(await logitsOf(again)).toEqual(await logitsOf(model));
    expect(again.generationDefaults.greedy ?? false).toBe(model.generationDefaults.greedy ?? false);
    expect(facts(again)).toEqual(facts(model));
    expect(again.info().formats.map(({ type }) => type)).toEqual(["f32"]);
    await again.close();
  }
  return { files, path };
}

const shape = (family: TinyFamily, tied: boolean) =>
  ({
    family,
    vocabSize: byteTokenizerSize + 5,
    hiddenSize: 16,
    layers: 2,
    heads: 2,
    maxPositions: 16,
    tied,
  }) as const;

describe.each(tinyFamilies)("a %s", (family) => {
  test.each([true, false])("that was drawn and trained is saved as it is (tied: %s)", async (tied) => {
    const model = await randomModel(shape(family, tied), { tokenizer, seed: 1, device });
    const before = await logitsOf(model);
    await learn(model);
    expect(await logitsOf(model)).not.toEqual(before);
    const { path } = await expectSaved(model);
    const again = await LanguageModel.load(path, { device });
    expect(again.info()).toMatchObject({ tied, paddedRows: 5, eosIds: [byteTokenizerSize - 1] });
    expect(again.encode("the cat")).toEqual(model.encode("the cat"));
    // What is saved can be trained on.
    await learn(again);
    expect(await logitsOf(again)).not.toEqual(await logitsOf(model));
    await again.close();
    await model.close();
  });

  test.each(["F32", "BF16", "F16"] as const)("that was tuned from %s keeps its texts", async (dtype) => {
    const texts = {
      "generation_config.json": '{"temperature": 1.0, "do_sample": true}\n',
      "chat_template.jinja": "{{ bos_token }}",
      "README.md": "not of the model",
    };
    const init = await tinyFolder(family, dtype, texts);
    // Of float32 weights the default is as good.
    const model = await LanguageModel.load(init, { device, ...(dtype !== "F32" && { weights: "float32" }) });
    await learn(model);
    const { path } = await expectSaved(model);
    const kept = [
      "config.json",
      "tokenizer.json",
      "tokenizer_config.json",
      ...Object.keys(texts).slice(0, 2),
    ];
    expect(readdirSync(path).sort()).toEqual([...kept, "model.safetensors"].sort());
    for (const name of kept)
      expect(readFileSync(join(path, name), "utf8"), name).toBe(readFileSync(join(init, name), "utf8"));
    await model.close();
  });
});

describe("what is saved", () => {
  test("says float32 where the config named another type, and no other byte changes", async () => {
    const config = `{ "torch_dtype": "bfloat16",\n "rms_norm_eps": 1.0e-5, ${JSON.stringify({
      ...{ model_type: "llama", architectures: ["LlamaForCausalLM"], hidden_size: 24, intermediate_size: 40 },
      ...{ num_attention_heads: 4, num_key_value_heads: 2, head_dim: 10, num_hidden_layers: 2 },
      ...{ max_position_embeddings: 48, vocab_size: byteTokenizerSize + 5 },
    }).slice(1)}`;
    const init = await tinyFolder("llama", "BF16", { "config.json": config });
    const model = await LanguageModel.load(init, { device, weights: "float32" });
    const files = await modelFiles(model);
    expect(files["config.json"]).toBe(config.replace('"bfloat16"', '"float32"'));
    await model.close();
  });

  test("of a model without a tokenizer has none", async () => {
    const model = await randomModel(shape("llama", true), { device });
    const { files } = await expectSaved(model);
    expect(Object.keys(files)).toEqual(["config.json", "model.safetensors"]);
    await model.close();
  });

  test.each(["the embedded model's", "a GGUF file's"])("has %s tokenizer as files", async (whose) => {
    // Of two end tokens.
    const metadata = { ...scoredGguf(), "tokenizer.ggml.eot_token_id": { type: "u32", value: 1 } } as const;
    const from = whose === "a GGUF file's" ? bytesSource("s.gguf", makeGguf({ metadata })) : undefined;
    const given = await loadTokenizer(from);
    const { vocabSize } = given;
    const model = await randomModel({ ...shape("llama", true), vocabSize }, { tokenizer: given, device });
    const { files } = await expectSaved(model);
    const again = await loadTokenizer(memoryFiles("again", files));
    for (const text of [
      "The cat sat on the mat.",
      "  two spaces,\ttab\n\nlines",
      "I'll don't — ½ 日本語 🙂",
      "<|endoftext|>a</s>",
    ])
      expect(again.encode(text), text).toEqual(given.encode(text));
    for (const field of ["vocabSize", "bosId", "unkId", "padId", "addsBos", "specialIds"] as const)
      expect(again[field], field).toEqual(given[field]);
    // Each end token still ends a text.
    const loaded = await LanguageModel.load(memoryFiles("again", files), { device });
    expect(loaded.eosIds).toEqual(given.eosIds);
    expect(loaded.eosIds).toHaveLength(from ? 2 : 1);
    await loaded.close();
    await model.close();
  });

  test.each(["llama", "gpt2"] as const)("becomes a GGUF file: %s", async (family) => {
    const model = await randomModel(shape(family, true), { tokenizer, seed: 2, device });
    await learn(model);
    const { files, path } = await expectSaved(model);
    const gguf = await exportGguf(memoryFiles("mine", files), { type: "f32" });
    const again = await LanguageModel.load(bytesSource("mine.gguf", gguf), { device });
    const [ours, theirs] = [await logitsOf(model), await logitsOf(again)];
    expect(Math.max(...ours.map((x, i) => Math.abs(x - theirs[i])))).toBeLessThan(1e-5);
    expect(Math.max(...ours.map(Math.abs))).toBeGreaterThan(0.1);
    expect(again.encode("the cat")).toEqual(model.encode("the cat"));
    // The same from disk; only the name is another: the folder's, without the way to it.
    const fromDisk = await exportGguf(folderFiles(path), { type: "f32" });
    const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
    expect(text(fromDisk)).toContain("general.name\b\0\0\0\u0003\0\0\0\0\0\0\0run");
    expect(text(fromDisk).slice(-2000)).toBe(text(gguf).slice(-2000));
    await again.close();
    await model.close();
  });
});

describe("saving refuses", () => {
  const refused = async (promise: Promise<unknown>, message: RegExp) => {
    await expect(promise).rejects.toThrow(InputError);
    await expect(promise).rejects.toThrow(message);
  };

  test("a GGUF file's model", async () => {
    const source = tinyGguf("llama");
    const model = await LanguageModel.load(source, { device, weights: "float32" });
    await refused(
      modelFiles(model),
      /tiny llama\.gguf: can't be written.*GGUF file's, which has no config\.json/,
    );
    await model.close();
  });

  test("weights that are not held as float32", async () => {
    const path = await tinyFolder("llama", "BF16");
    const model = await LanguageModel.load(path, { device });
    const out = freshOut();
    await refused(saveModel(model, out), /not held as float32; load it with weights: "float32"/);
    expect(() => readdirSync(out)).toThrow(/ENOENT/);
    await model.close();
  });

  test("to replace files that are not its own, and replaces its own", async () => {
    const model = await LanguageModel.load(tinyModel("llama"), { device });
    const path = freshOut();
    mkdirSync(path);
    await saveModel(model, path);
    await learn(model);
    // As a process that was killed leaves it.
    mkdirSync(`${path}.new`);
    writeFileSync(join(`${path}.new`, "config.json"), "{");
    await saveModel(model, `${path}/`);
    const again = await LanguageModel.load(path, { device });
    expect(await logitsOf(again)).toEqual(await logitsOf(model));
    await again.close();
    expect(readdirSync(join(path, ".."))).toEqual(["run"]);

    for (const place of [path, `${path}.new`, `${path}.old`]) {
      mkdirSync(place, { recursive: true });
      const before = [...tree(path)];
      const notes = join(place, "notes.txt");
      writeFileSync(notes, "mine");
      await refused(
        saveModel(model, path),
        /holds notes\.txt, which is none of the files that saveModel writes/,
      );
      expect(readFileSync(notes, "utf8")).toBe("mine");
      rmSync(notes);
      expect([...tree(path)]).toEqual(before);
    }
    await model.close();
  });

  test("what is no folder", async () => {
    const model = await LanguageModel.load(tinyModel("llama"), { device });
    const file = join(await tinyFolder("llama"), "config.json");
    await refused(saveModel(model, file), /a file stands there/);
    await refused(saveModel(model, ""), /expected the path of a folder/);
    await model.close();
  });

  test("to make a GGUF file of what are no files", async () => {
    for (const input of ["my-model", undefined, null])
      await refused(exportGguf(input as never, { type: "f32" }), /gguf export: expected a folder's files/);
  });

  test("to make a GGUF file of a folder without a tokenizer", async () => {
    const model = await randomModel(shape("llama", true), { device });
    const files = memoryFiles("mine", await modelFiles(model));
    await refused(exportGguf(files, { type: "f32" }), /mine: has no tokenizer\.json/);
    await model.close();
  });
});
