import { describe, expect, test } from "vitest";
import { roundTo } from "../../src/body/families/gemma2.js";
import { readHuggingFace } from "../../src/body/families/index.js";
import { InputError } from "../../src/errors.js";
import { readJson } from "../../src/model/formats/files.js";
import { openSafetensorsFolder } from "../../src/model/formats/safetensors.js";
import { type Bend, type TinyFamily, tinyFamilies, tinyModel } from "../fixtures/tiny-models.js";

async function read(family: TinyFamily, bend: Bend = {}) {
  const files = tinyModel(family, 1, bend);
  return readHuggingFace(
    "config.json",
    await readJson(files, "config.json"),
    await openSafetensorsFolder(files),
  );
}

const refused = (family: TinyFamily, config: Record<string, unknown>, message: RegExp) =>
  expect(read(family, { config })).rejects.toThrow(message);

describe("architectures", () => {
  const supported =
    /GPT2LMHeadModel, LlamaForCausalLM, Qwen2ForCausalLM, Gemma2ForCausalLM, GPTNeoXForCausalLM, PhiForCausalLM/;

  test("another architecture is named and the supported ones are listed", async () => {
    const config = { architectures: ["MambaForCausalLM"], model_type: "mamba" };
    await refused("llama", config, /architecture "MambaForCausalLM" is not supported/);
    await refused("llama", config, supported);
    await refused("llama", { architectures: ["LlamaForSequenceClassification"] }, supported);
    await refused("llama", { architectures: null, model_type: null }, /names no architecture/);
    await refused("llama", { architectures: 3 }, /architectures: expected a list of strings, got 3/);
  });

  test("either of the two fields is enough", async () => {
    expect((await read("phi", { config: { architectures: undefined } })).spec.family).toBe("phi");
    expect((await read("phi", { config: { model_type: undefined } })).spec.family).toBe("phi");
  });
});

describe("config values", () => {
  test.each([
    ["num_attention_heads", 0, /num_attention_heads: expected a whole number from 1 .* got 0/],
    ["num_attention_heads", -4, /got -4/],
    ["num_attention_heads", 2.5, /got 2.5/],
    ["num_attention_heads", "4", /got "4"/],
    ["hidden_size", undefined, /hidden_size: expected .* got nothing \(the field is missing\)/],
    ["num_hidden_layers", 1e12, /expected a whole number from 1 to 16777216, got 1000000000000/],
    ["num_hidden_layers", 3, /has no tensor model.layers.2/],
    ["num_key_value_heads", 3, /4 query heads are not divisible by 3 key heads/],
    ["rms_norm_eps", 0, /rms_norm_eps: expected a number above 0, got 0/],
    ["rms_norm_eps", "small", /got "small"/],
    ["rope_theta", -1, /rope_theta: expected a number above 0/],
    ["head_dim", 9, /rotary positions on 9 columns of a head/],
    ["hidden_act", "mish", /hidden_act "mish" is not supported; supported are gelu/],
    [
      "rope_scaling",
      { rope_type: "yarn", factor: 2 },
      /type "yarn" is not supported; supported are default, linear, llama3/,
    ],
    ["rope_scaling", { rope_type: "linear" }, /factor: expected a number above 0, got nothing/],
    ["rope_scaling", "linear", /rope_scaling: expected an object, got "linear"/],
    ["attention_bias", "no", /attention_bias: expected true or false/],
    ["vocab_size", 100, /expected shape \[100, 24\], got \[266, 24\]/],
    ["intermediate_size", 41, /expected shape \[41, 24\], got \[40, 24\]/],
  ])("llama: %s %j", async (field, value, message) => {
    await refused("llama", { [field]: value }, message);
    await expect(read("llama", { config: { [field]: value } })).rejects.toBeInstanceOf(InputError);
  });

  test("heads that do not divide the width", async () => {
    await refused(
      "phi",
      { num_attention_heads: 5 },
      /hidden_size by num_attention_heads: 24 is not divisible by 5/,
    );
    await refused("gpt2", { n_head: 7 }, /n_embd by n_head: 24 is not divisible by 7/);
    await refused("gpt_neox", { rotary_pct: 4 }, /rotary positions on 24 columns of a head: .* from 2 to 6/);
  });

  test("layer types", async () => {
    await refused("gemma2", { layer_types: ["full_attention"] }, /one type for each of the 2 layers/);
    await refused(
      "gemma2",
      { layer_types: ["full_attention", "linear_attention"] },
      /got "linear_attention"/,
    );
    await refused(
      "qwen2",
      { layer_types: ["full_attention", "sliding_attention"] },
      /sliding_window: expected a whole number/,
    );
  });

  test.each(tinyFamilies)("%s: a missing tensor is named", async (family) => {
    const drop = (tensors: Record<string, unknown>) => {
      for (const name of Object.keys(tensors)) if (/norm|ln_f/.test(name)) delete tensors[name];
    };
    await expect(read(family, { tensors: drop })).rejects.toThrow(/has no tensor \S*(norm|ln_)/);
  });

  test("no vocabulary matrix: the names that were looked for", async () => {
    const drop = (tensors: Record<string, unknown>) => {
      delete tensors["gpt_neox.embed_in.weight"];
      delete tensors["embed_out.weight"];
    };
    await expect(read("gpt_neox", { tensors: drop })).rejects.toThrow(
      /looked for gpt_neox.embed_in.weight, embed_out.weight, lm_head.weight/,
    );
  });
});

describe("windows", () => {
  const windowsOf = async (family: TinyFamily, config: Record<string, unknown>) =>
    (await read(family, { config })).spec.body.layers.map((layer) => layer.attention.window);

  test("gemma2: even layers, unless the config lists types", async () => {
    expect(await windowsOf("gemma2", {})).toEqual([6, undefined]);
    expect(await windowsOf("gemma2", { layer_types: ["full_attention", "sliding_attention"] })).toEqual([
      undefined,
      6,
    ]);
  });

  test("qwen2: from max_window_layers on, if the config says to slide", async () => {
    expect(await windowsOf("qwen2", { sliding_window: 9, max_window_layers: 1 })).toEqual([
      undefined,
      undefined,
    ]);
    const config = { use_sliding_window: true, sliding_window: 9, max_window_layers: 1 };
    expect(await windowsOf("qwen2", config)).toEqual([undefined, 9]);
  });
});

test("√D in the embedding's own precision", () => {
  expect(roundTo("bf16", Math.sqrt(3072))).toBe(55.5);
  expect(roundTo("f16", Math.sqrt(3072))).toBe(55.4375);
  expect(roundTo("f32", Math.sqrt(3072))).toBe(Math.fround(Math.sqrt(3072)));
  expect(roundTo("bf16", 1 + 2 ** -8)).toBe(1);
  expect(roundTo("bf16", 1 + 3 * 2 ** -8)).toBe(1 + 2 ** -6);
});
