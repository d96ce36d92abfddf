import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readHuggingFace } from "../../src/body/families/index.js";
import { InputError } from "../../src/errors.js";
import { memoryCheckpoint } from "../../src/model/formats/memory.js";
import { initialModel } from "../../src/train/initial/initial-model.js";
import { type InitialFamily, initialFamilies, type ModelShape } from "../../src/train/initial/shape.js";

type Made = [shape: number[], mean: number, std: number];
interface Case {
  readonly config: Record<string, unknown>;
  readonly tensors: Record<string, Made>;
}
const { families } = JSON.parse(readFileSync(new URL("fixtures/initial.json", import.meta.url), "utf8")) as {
  families: Record<string, Case>;
};

/** The shape that make_initial.py has. */
function shapeOf(family: InitialFamily, tied: boolean): ModelShape {
  const kv = family === "gpt2" || family === "gpt_neox" ? {} : { kvHeads: 2 };
  const heads = family === "gpt_neox" ? 3 : 4;
  return {
    family,
    vocabSize: 512,
    hiddenSize: 48,
    layers: 2,
    heads,
    ...kv,
    maxPositions: 40,
    tied,
    eosTokenId: 0,
  };
}

function moments(data: Float32Array): { mean: number; std: number } {
  const mean = data.reduce((sum, x) => sum + x, 0) / data.length;
  const variance = data.reduce((sum, x) => sum + (x - mean) ** 2, 0) / data.length;
  return { mean, std: Math.sqrt(variance) };
}

const cases = initialFamilies.flatMap((family) => [
  { family, tied: true, name: `${family} tied` },
  { family, tied: false, name: `${family} untied` },
]);

describe.each(cases)("a new $name", ({ family, tied, name }) => {
  const model = initialModel(shapeOf(family, tied), 5);
  const { config, tensors } = families[name];

  test("has the config, and the tensors that transformers makes of it", () => {
    expect(model.config).toEqual(config);
    expect(Object.fromEntries([...model.tensors].map(([tensor, { shape }]) => [tensor, shape]))).toEqual(
      Object.fromEntries(Object.entries(tensors).map(([tensor, [shape]]) => [tensor, shape])),
    );
  });

  test("has numbers distributed as transformers' are", () => {
    let drawn = 0;
    for (const [tensor, [, mean, std]] of Object.entries(tensors)) {
      const { data } = model.tensors.get(tensor)!;
      if (std === 0) expect(new Set(data), tensor).toEqual(new Set([mean]));
      else {
        drawn++;
        const ours = moments(data);
        // Both are samples: five standard deviations of a ratio of two, and of a difference of two means.
        expect(Math.abs(ours.std / std - 1), `${tensor} std`).toBeLessThan(5 / Math.sqrt(data.length));
        expect(Math.abs(ours.mean - mean), `${tensor} mean`).toBeLessThan(
          (5 * Math.SQRT2 * std) / Math.sqrt(data.length),
        );
      }
    }
    expect(drawn).toBeGreaterThan(8);
  });

  test("is read as a model", async () => {
    const checkpoint = memoryCheckpoint("new", model.tensors);
    const { spec } = await readHuggingFace("new", model.config, checkpoint);
    expect(spec.family).toBe(family);
    expect(spec.body.layers).toHaveLength(2);
    expect([spec.embedding.table.rows, spec.embedding.table.cols]).toEqual([512, 48]);
    expect(spec.head.weight === undefined).toBe(tied);
    expect(spec.claimsTied).toBe(tied);
  });
});

test("transformers scales GPT-2's residual projections and sets Gemma's norms to 0, as we take it", () => {
  const std = (name: string, tensor: string) => families[name].tensors[tensor][2];
  expect(std("gpt2 tied", "transformer.h.1.mlp.c_proj.weight")).toBeCloseTo(0.01, 3);
  expect(families["gemma2 tied"].tensors["model.norm.weight"][1]).toBe(0);
});

describe("defaults", () => {
  const base = { vocabSize: 50, hiddenSize: 64, layers: 1, heads: 4, maxPositions: 8 };
  test.each<[InitialFamily, number, boolean]>([
    ["gpt2", 256, true],
    ["llama", 192, false],
    ["qwen2", 192, false],
    ["gemma2", 256, true],
    ["gpt_neox", 256, false],
    ["phi", 256, false],
  ])("%s: inner size %i, tied %s, as many key heads", (family, inner, tied) => {
    const { config } = initialModel({ family, ...base }, 0);
    expect(config[family === "gpt2" ? "n_inner" : "intermediate_size"]).toBe(inner);
    expect(config.tie_word_embeddings).toBe(tied);
    if (family !== "gpt2" && family !== "gpt_neox") expect(config.num_key_value_heads).toBe(4);
    expect([config.bos_token_id, config.eos_token_id]).toEqual([null, null]);
  });

  test("llama's inner size is 8/3 of D, up to a multiple of 32", () => {
    const inner = (hiddenSize: number) =>
      initialModel({ ...base, family: "llama", hiddenSize, heads: 2 }, 0).config.intermediate_size;
    expect([inner(48), inner(52), inner(96), inner(100), inner(384)]).toEqual([128, 160, 256, 288, 1024]);
  });

  test("ids and an inner size of one's own stand in the config", () => {
    const own = { ...base, family: "llama" as const, innerSize: 7, bosTokenId: 0, eosTokenId: 49 };
    const { config, tensors } = initialModel(own, 0);
    expect(config).toMatchObject({ intermediate_size: 7, bos_token_id: 0, eos_token_id: 49 });
    expect(tensors.get("model.layers.0.mlp.up_proj.weight")!.shape).toEqual([7, 64]);
  });
});

test("a seed makes one model; a tensor's numbers depend on no other size", () => {
  const shape = shapeOf("llama", true);
  const one = initialModel(shape, 5);
  expect(initialModel(shape, 5).tensors).toEqual(one.tensors);
  const embedding = one.tensors.get("model.embed_tokens.weight")!.data;
  expect(initialModel(shape, 6).tensors.get("model.embed_tokens.weight")!.data).not.toEqual(embedding);
  const larger = initialModel({ ...shape, vocabSize: 600, layers: 3 }, 5).tensors;
  expect(larger.get("model.embed_tokens.weight")!.data.subarray(0, embedding.length)).toEqual(embedding);
  for (const [name, { data }] of one.tensors)
    if (name.includes("layers.1.")) expect(larger.get(name)!.data).toEqual(data);
});

describe("refusals", () => {
  const good: ModelShape = {
    family: "llama",
    vocabSize: 50,
    hiddenSize: 64,
    layers: 1,
    heads: 4,
    maxPositions: 8,
  };
  test.each<[string, object, RegExp]>([
    ["another family", { family: "mamba" }, /family: expected one of gpt2, llama, .*, got "mamba"/],
    ["an object's own word as a family", { family: "toString" }, /family: expected one of/],
    ["a misspelt field", { vocab: 3 }, /unknown option "vocab"/],
    ["no vocabulary", { vocabSize: undefined }, /vocabSize: expected a whole number from 1 .* got undefined/],
    ["half a layer", { layers: 1.5 }, /layers: expected a whole number from 1 to 65536, got 1.5/],
    ["NaN", { hiddenSize: Number.NaN }, /hiddenSize: .* got NaN/],
    ["text", { maxPositions: "8" }, /maxPositions: .* got "8"/],
    ["heads that do not divide", { heads: 5 }, /heads: expected a number that divides hiddenSize 64, got 5/],
    [
      "key heads that do not divide",
      { kvHeads: 3 },
      /kvHeads: expected a number that divides heads 4, got 3/,
    ],
    ["key heads of gpt2", { family: "gpt2", kvHeads: 4 }, /kvHeads: expected nothing: gpt2/],
    [
      "odd heads",
      { hiddenSize: 60, heads: 4 },
      /heads: .* another size than 15 .* multiple of 2: llama's .* turn 15 .* got 4/,
    ],
    [
      "neox heads of 12",
      { family: "gpt_neox", hiddenSize: 48 },
      /another size than 12 .* multiple of 8: gpt_neox's .* turn 3 /,
    ],
    [
      "phi heads of 6",
      { family: "phi", hiddenSize: 24 },
      /another size than 6 .* multiple of 4: phi's .* turn 3 /,
    ],
    ["tied in words", { tied: "yes" }, /tied: expected true or false, got "yes"/],
    ["an id beyond the vocabulary", { eosTokenId: 50 }, /eosTokenId: .* 0 to 49 .* got 50/],
    ["a negative id", { bosTokenId: -1 }, /bosTokenId: .* got -1/],
    ["a model that no memory holds", { hiddenSize: 2 ** 16, layers: 8 }, /takes \d+\.\d GiB, more than fits/],
  ])("%s", (_, change, message) => {
    const make = () => initialModel({ ...good, ...change } as ModelShape, 1);
    expect(make).toThrow(InputError);
    expect(make).toThrow(message);
  });

  test.each([-1, 0.5, Number.NaN, 2 ** 53])("seed %d", (seed) => {
    expect(() => initialModel(good, seed)).toThrow(/seed: expected a whole number in \[0, 2\^53\)/);
  });
});
