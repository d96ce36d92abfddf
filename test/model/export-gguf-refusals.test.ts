import { describe, expect, test } from "vitest";
import { InputError } from "../../src/errors.js";
import { exportGguf } from "../../src/model/export-gguf.js";
import type { GgufExportInput } from "../../src/model/export-gguf-input.js";
import { type Bend, type TinyFamily, tinyModel } from "../fixtures/tiny-models.js";
import { exported, inputOf, type Json } from "./gguf-export.js";

describe("refusals", () => {
  test.each<[string, TinyFamily, Bend, RegExp]>([
    [
      "another family",
      "gemma2",
      {},
      /the family gemma2 can't be exported yet; those that can are llama, qwen2/,
    ],
    ["another activation", "llama", { config: { hidden_act: "gelu" } }, /layer 0: the activation is geluErf/],
    [
      "a scale by layer",
      "gpt2",
      { config: { scale_attn_by_inverse_layer_idx: true } },
      /layer 1: the attention's scale/,
    ],
    [
      "a window",
      "qwen2",
      { config: { use_sliding_window: true, sliding_window: 4, max_window_layers: 0 } },
      /layer 0: the attention's window is 4/,
    ],
    [
      "rotary factors of a family that llama.cpp has none for",
      "qwen2",
      {
        config: {
          rope_scaling: {
            rope_type: "llama3",
            factor: 8,
            low_freq_factor: 1,
            high_freq_factor: 4,
            original_max_position_embeddings: 8,
          },
        },
      },
      /stretched each by its own factor/,
    ],
    ["an end token beyond the rows", "qwen2", { config: { eos_token_id: 9999 } }, /the eos id is 9999/],
    ["four end tokens", "qwen2", { config: { eos_token_id: [1, 2, 3, 4] } }, /4 end tokens .* at most 3/],
    [
      "a number beyond the type",
      "qwen2",
      { tensors: (t) => Object.assign(t["model.embed_tokens.weight"], { data: Array(266 * 24).fill(7e4) }) },
      /embed_tokens.weight.* as token_embd.weight, from row 0: number 0 can't be stored as f16/,
    ],
  ])("%s", async (_, family, bend, message) => {
    const made = exported(tinyModel(family, 1, bend), "f16");
    await expect(made).rejects.toThrow(InputError);
    await expect(made).rejects.toThrow(message);
  });

  test.each<[string, Json, unknown, RegExp]>([
    ["an unknown type", {}, { type: "q8_1" }, /type: expected one of f32, f16, .*, got q8_1/],
    ["no type", {}, {}, /type: expected one of .*, got undefined/],
    ["an unknown option", {}, { type: "f16", bits: 8 }, /unknown option "bits"/],
    ["an unknown field", { vocabulary: [] }, { type: "f16" }, /unknown option "vocabulary"/],
    ["no tokenizer", { tokenizer: undefined }, { type: "f16" }, /tokenizer: expected \{ json, config \}/],
    ["no config", { config: null }, { type: "f16" }, /config.json: expected an object, got null/],
    ["a name that is none", { name: 3 }, { type: "f16" }, /general.name: expected Unicode text, got 3/],
  ])("%s", async (_, change, options, message) => {
    const input = await inputOf(tinyModel("llama"), change as Partial<GgufExportInput>);
    const made = exportGguf(input, options as { type: "f16" });
    await expect(made).rejects.toThrow(InputError);
    await expect(made).rejects.toThrow(message);
  });
});
