import { expect, test } from "vitest";
import { Fields } from "../../src/body/families/fields.js";
import { readGguf } from "../../src/body/families/gguf.js";
import { bytesSource } from "../../src/model/formats/files.js";
import { openGguf } from "../../src/model/formats/gguf.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { type GgufEntry, makeGguf } from "../fixtures/make-gguf.js";
import { tinyGguf } from "../fixtures/tiny-gguf.js";
import { tinyFamilies, tinyModel, tinyRows } from "../fixtures/tiny-models.js";
import { excess } from "./open-runner.js";

const ids = Array.from({ length: 21 }, (_, i) => (i * 37 + 11) % tinyRows);

// The same weights under both formats' names, layouts and conventions give the same logits.
test.each(tinyFamilies)(
  "%s: GGUF as llama.cpp converts it equals the Hugging Face folder",
  async (family) => {
    // A GGUF file does not hold Gemma 2's attention scale: what its head size gives.
    const config = family === "gemma2" ? { query_pre_attn_scalar: 8 } : {};
    const files = tinyModel(family, 1, { config });
    const folder = await LanguageModel.load(files, { device: "reference", padded: "keep" });
    const gguf = await LanguageModel.load(tinyGguf(family, config), { device: "reference" });
    expect(gguf.info().tied).toBe(folder.info().tied);
    expect(gguf.info().head).toBe(folder.info().head);
    expect(gguf.info().parameters).toBe(folder.info().parameters);
    const [a, b] = await Promise.all(
      [gguf, folder].map(async (model) => {
        const { hidden } = await model.hidden({ ids });
        return (await model.head.ask(hidden, { logits: true })).logits;
      }),
    );
    expect(excess(a, b)).toBeLessThan(1);
    await gguf.close();
    await folder.close();
  },
);

async function read(metadata: Record<string, GgufEntry>) {
  const checkpoint = await openGguf(bytesSource("x.gguf", makeGguf({ metadata })));
  return readGguf(new Fields("x.gguf", (name) => checkpoint.metadata.get(name)), checkpoint);
}

const llama = (bend: Record<string, GgufEntry> = {}): Record<string, GgufEntry> => ({
  "general.architecture": { type: "string", value: "llama" },
  "llama.block_count": { type: "u32", value: 1 },
  "llama.context_length": { type: "u32", value: 64 },
  "llama.embedding_length": { type: "u32", value: 16 },
  "llama.feed_forward_length": { type: "u32", value: 32 },
  "llama.attention.head_count": { type: "u32", value: 2 },
  "llama.attention.layer_norm_rms_epsilon": { type: "f32", value: 1e-5 },
  ...bend,
});

test.each<[string, Record<string, GgufEntry>, RegExp]>([
  [
    "another architecture",
    llama({ "general.architecture": { type: "string", value: "mamba" } }),
    /x.gguf: architecture "mamba" is not supported; supported are llama, qwen2, gemma2, gpt2, gptneox, phi2/,
  ],
  ["no architecture", {}, /general.architecture: expected a string, got nothing/],
  [
    "no heads",
    llama({ "llama.attention.head_count": { type: "u32", value: 0 } }),
    /head_count: expected .* got 0/,
  ],
  [
    "an odd width",
    llama({ "llama.embedding_length": { type: "u32", value: 15 } }),
    /15 is not divisible by 2/,
  ],
  [
    "heads that differ between layers",
    llama({
      "llama.block_count": { type: "u32", value: 2 },
      "llama.attention.head_count": { type: "array", of: "i32", value: [2, 4] },
    }),
    /head_count differs between layers \(2 4\)/,
  ],
  [
    "experts",
    llama({ "llama.expert_count": { type: "u32", value: 8 } }),
    /mixtures of experts are not supported/,
  ],
  [
    "values of another length",
    llama({ "llama.attention.value_length": { type: "u32", value: 4 } }),
    /value_length: expected 8, the length of keys, got 4/,
  ],
  [
    "yarn",
    llama({ "llama.rope.scaling.type": { type: "string", value: "yarn" } }),
    /rope scaling type "yarn" is not supported; supported are none, linear/,
  ],
  ["no tensors", llama(), /no vocabulary matrix: looked for token_embd.weight, output.weight/],
])("metadata that are refused: %s", async (_, metadata, message) => {
  await expect(read(metadata)).rejects.toThrow(message);
});
