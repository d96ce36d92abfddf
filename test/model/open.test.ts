import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { InputError } from "../../src/errors.js";
import { LanguageModel, loadTokenizer } from "../../src/node.js";
import { tinyModel } from "../fixtures/tiny-models.js";
import { exported } from "./gguf-export.js";

const root = mkdtempSync(join(tmpdir(), "lmhead-open-"));
afterAll(() => rmSync(root, { recursive: true }));

const made = await exported(tinyModel("qwen2"), "f16");
const gguf = await made.read(0, made.size);

/** A folder with these files; true: a whole GGUF file. */
function folder(name: string, files: Record<string, string | true>): string {
  const path = join(root, name);
  mkdirSync(path);
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(join(path, file, ".."), { recursive: true });
    writeFileSync(join(path, file), content === true ? gguf : content);
  }
  return path;
}

const load = (path: string) => LanguageModel.load(path, { device: "reference" });
const generation = JSON.stringify({ do_sample: true, temperature: 0.5 });

describe("a folder with one .gguf file", () => {
  test.each<[string, Record<string, string | true>]>([
    ["alone", {}],
    ["published with its origin's config", { "config.json": '{ "model_type": "qwen2" }' }],
    ["above others", { "sub/y.gguf": "no GGUF", "sub/model.safetensors": "" }],
    ["with another tokenizer", { "tokenizer.json": "{" }],
  ])("%s is that model, with the folder's generation_config.json", async (name, more) => {
    const path = folder(name, { "x.gguf": true, "generation_config.json": generation, ...more });
    const model = await load(path);
    expect(model.info().format).toBe("gguf");
    expect(model.generationDefaults).toEqual({ greedy: false, temperature: 0.5 });
    expect((await loadTokenizer(path)).encode("the cat")).toEqual(model.encode("the cat"));
    await model.close();
    // Who names the file means the file.
    const file = await load(join(path, "x.gguf"));
    expect(file.generationDefaults).toEqual({});
    await file.close();
  });

  test.each<[string, Record<string, string | true>, RegExp]>([
    ["two", { "x.gguf": true, "y.gguf": true }, /which file is the model\? .*x\.gguf, y\.gguf: name one/],
    ["weights beside", { "x.gguf": true, "model.safetensors": "" }, /x\.gguf, model\.safetensors: name one/],
    [
      "a folder of safetensors",
      { "x.gguf": true, "model.safetensors": "", "config.json": "{}" },
      /config\.json|safetensors/,
    ],
  ])("and %s is no such folder", async (name, files, message) => {
    const path = folder(name, files);
    await expect(load(path)).rejects.toThrow(InputError);
    await expect(load(path)).rejects.toThrow(message);
  });
});
