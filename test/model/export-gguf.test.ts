import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exportGguf, type GgufExportType, openGgufExport } from "../../src/model/export-gguf.js";
import type { GgufExportInput } from "../../src/model/export-gguf-input.js";
import type { Checkpoint } from "../../src/model/formats/checkpoint.js";
import { bytesSource, memoryFiles } from "../../src/model/formats/files.js";
import { openGguf } from "../../src/model/formats/gguf.js";
import { readGgufHeader } from "../../src/model/formats/gguf-header.js";
import { ggufChunks } from "../../src/model/formats/gguf-write.js";
import { type MemoryTensor, memoryCheckpoint } from "../../src/model/formats/memory.js";
import type { LanguageModel } from "../../src/model/language-model.js";
import { initialModel } from "../../src/train/initial/initial-model.js";
import { trainBpe } from "../../src/train/tokenizer/train-bpe.js";
import { byteTokenizerSize } from "../fixtures/byte-tokenizer.js";
import { makeSafetensors } from "../fixtures/make-safetensors.js";
import { tinyGguf } from "../fixtures/tiny-gguf.js";
import { type TinyFamily, tinyModel } from "../fixtures/tiny-models.js";
import { distance, END, exported, type Json, load, run, template, texts } from "./gguf-export.js";

describe("a new llama with a tokenizer of its own", () => {
  const V = 300;
  const made = initialModel(
    {
      family: "llama",
      vocabSize: V,
      hiddenSize: 64,
      layers: 2,
      heads: 4,
      kvHeads: 2,
      innerSize: 80,
      maxPositions: 48,
      tied: true,
      bosTokenId: 0,
      eosTokenId: 0,
    },
    3,
  );
  // As large as those of a trained model, so that rotary positions and the MLP count; norms away from 1.
  for (const [name, { shape, data }] of made.tensors)
    data.forEach((x, i) => {
      data[i] = shape.length === 1 ? 0.6 + 0.3 * Math.sin(i + name.length) : 4 * x;
    });
  const json = async (): Promise<Json> => {
    const words = texts.concat("the dog and the cat, the mat of the cat", "I don't think we've before");
    const trained = await trainBpe(words, { vocabSize: V, minFrequency: 0, specialTokens: [END] });
    expect(trained.complete).toBe(true);
    return { ...trained.json, post_processor: template([END], []) };
  };
  const options = { bos_token: END, eos_token: END, tokenizer_class: "PreTrainedTokenizerFast" };
  let input: GgufExportInput;
  let folder: LanguageModel;
  const models: LanguageModel[] = [];

  beforeAll(async () => {
    const tokenizer = { json: await json(), config: options };
    const checkpoint = memoryCheckpoint("made", made.tensors);
    input = { name: "my llama", config: made.config, tokenizer, checkpoint };
    const stored = [...made.tensors].map(([name, { shape, data }]) => [name, { shape, data: [...data] }]);
    folder = await load(
      memoryFiles("made", {
        "config.json": JSON.stringify(made.config),
        "tokenizer.json": JSON.stringify(tokenizer.json),
        "tokenizer_config.json": JSON.stringify(options),
        "model.safetensors": makeSafetensors(Object.fromEntries(stored)),
      }),
    );
    models.push(folder);
  });
  afterAll(() => Promise.all(models.map((model) => model.close())));
  const loaded = async (type: GgufExportType) => {
    const model = await load(bytesSource("my.gguf", await exportGguf(input, { type })));
    models.push(model);
    return model;
  };

  test("as f32 runs as the folder does, and encodes as it does", async () => {
    const gguf = await loaded("f32");
    const [theirs, ours] = [await run(folder, V), await run(gguf, V)];
    expect(distance(theirs.hidden, ours.hidden)).toBeLessThan(1e-6);
    expect(distance(theirs.logits, ours.logits)).toBeLessThan(1e-6);
    for (const text of texts) {
      expect(gguf.encode(text)).toEqual(folder.encode(text));
      expect(gguf.encode(text)[0]).toBe(0);
    }
    const kept = [
      "vocabSize",
      "paddedRows",
      "hiddenSize",
      "layers",
      "heads",
      "kvHeads",
      "maxPositions",
    ] as const;
    const same = [...kept, "parameters", "tied", "family", "bosId", "eosIds"] as const;
    for (const field of same) expect([field, gguf.info()[field]]).toEqual([field, folder.info()[field]]);
    const options = { maxNewTokens: 12, greedy: true };
    expect((await gguf.generateAll("the", options)).ids).toEqual(
      (await folder.generateAll("the", options)).ids,
    );
  });

  // Bounds: about twice what was measured.
  test.each<[GgufExportType, number]>([
    ["f16", 1e-3],
    ["q8_0", 0.03],
    ["q5_1", 0.2],
    ["q5_0", 0.2],
    ["q4_1", 0.35],
    ["q4_0", 0.45],
  ])("as %s is within %f of the folder's logits", async (type, bound) => {
    const theirs = await run(folder, V);
    const ours = await run(await loaded(type), V);
    const far = distance(theirs.logits, ours.logits);
    expect(far).toBeLessThan(bound);
    expect(far).toBeGreaterThan(bound / 30);
  });

  test("says what it is in llama.cpp's words", async () => {
    const { layout, asF16 } = await openGgufExport(input, { type: "q8_0" });
    const bytes = await exportGguf(input, { type: "q8_0" });
    expect(bytes.length).toBe(layout.size);
    const source = bytesSource("my.gguf", bytes);
    const { metadata } = await readGgufHeader(source);
    const tokens = metadata.get("tokenizer.ggml.tokens") as string[];
    expect(Object.fromEntries(metadata)).toMatchObject({
      "general.architecture": "llama",
      "general.type": "model",
      "general.name": "my llama",
      "general.alignment": 32,
      "general.quantization_version": 2,
      "general.file_type": 7,
      "llama.context_length": 48,
      "llama.embedding_length": 64,
      "llama.block_count": 2,
      "llama.feed_forward_length": 80,
      "llama.attention.head_count": 4,
      "llama.attention.head_count_kv": 2,
      "llama.attention.layer_norm_rms_epsilon": Math.fround(1e-6),
      "llama.rope.freq_base": 10000,
      "llama.rope.dimension_count": 16,
      "llama.vocab_size": V,
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "gpt-2",
      "tokenizer.ggml.bos_token_id": 0,
      "tokenizer.ggml.eos_token_id": 0,
      "tokenizer.ggml.add_bos_token": true,
      "tokenizer.ggml.add_eos_token": false,
    });
    expect(
      [...metadata.keys()].filter((key) => /eot|eom|unknown|padding|scaling|key_length/.test(key)),
    ).toEqual([]);
    expect(tokens).toHaveLength(V);
    expect(tokens[0]).toBe(END);
    expect(Array.from(metadata.get("tokenizer.ggml.token_type") as Int32Array)).toEqual([
      3,
      ...Array(V - 1).fill(1),
    ]);
    const merges = metadata.get("tokenizer.ggml.merges") as string[];
    expect(merges).toHaveLength(V - 257);
    expect(merges[0].replace(" ", "")).toBe(tokens[257]);
    // Rows of 80 are no whole blocks.
    expect(asF16).toEqual(["blk.0.ffn_down.weight", "blk.1.ffn_down.weight"]);
    const checkpoint = await openGguf(source);
    const types = [...checkpoint.tensors.values()].map(({ name, type, shape }) => `${name} ${type} ${shape}`);
    const layer = (l: number) =>
      [
        "attn_norm.weight f32 64",
        "attn_q.weight Q8_0 64,64",
        "attn_k.weight Q8_0 32,64",
        "attn_v.weight Q8_0 32,64",
        "attn_output.weight Q8_0 64,64",
        "ffn_norm.weight f32 64",
        "ffn_gate.weight Q8_0 80,64",
        "ffn_up.weight Q8_0 80,64",
        "ffn_down.weight f16 64,80",
      ].map((tensor) => `blk.${l}.${tensor}`);
    expect(types).toEqual([
      "token_embd.weight Q8_0 300,64",
      ...layer(0),
      ...layer(1),
      "output_norm.weight f32 64",
    ]);
  });

  test("can be streamed: the chunks are the file, and a large tensor comes in parts", async () => {
    const whole = await exportGguf(input, { type: "f32" });
    const { layout, read } = await openGgufExport(input, { type: "f32" });
    const parts: Uint8Array[] = [];
    for await (const part of ggufChunks(layout, read)) parts.push(part);
    expect(Buffer.concat(parts).equals(whole)).toBe(true);

    const rows = 40_000;
    const tensors = new Map<string, MemoryTensor>(made.tensors);
    const wide = { shape: [rows, 64], data: new Float32Array(rows * 64).map((_, i) => (i % 1999) / 1999) };
    tensors.set("model.embed_tokens.weight", wide);
    const large = await openGgufExport(
      {
        ...input,
        config: { ...made.config, vocab_size: rows },
        checkpoint: memoryCheckpoint("large", tensors),
      },
      { type: "f32" },
    );
    const [place] = large.layout.places;
    const sizes: number[] = [];
    const bytes = Buffer.concat(await collect(large.read(place, 0), (part) => sizes.push(part.length)));
    expect(sizes.length).toBeGreaterThan(1);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(2 ** 22);
    expect(bytes.equals(new Uint8Array(wide.data.buffer))).toBe(true);
  });

  test("a head of its own is written, an equal one is not", async () => {
    const table = made.tensors.get("model.embed_tokens.weight")!;
    for (const factor of [1, 2]) {
      const head = { shape: table.shape, data: table.data.map((x) => factor * x) };
      const tensors = new Map<string, MemoryTensor>([...made.tensors, ["lm_head.weight", head]]);
      const { layout } = await openGgufExport(
        { ...input, checkpoint: memoryCheckpoint("untied", tensors) },
        { type: "f16" },
      );
      expect(layout.places.some(({ name }) => name === "output.weight")).toBe(factor === 2);
    }
  });
});

/** Of the tokens that are not masked, after a prompt. */
async function logSumExp(model: LanguageModel): Promise<number> {
  return (await model.next("the cat")).logSumExp();
}

async function collect<T>(from: AsyncIterable<T>, each: (item: T) => void): Promise<T[]> {
  const all: T[] = [];
  for await (const item of from) {
    each(item);
    all.push(item);
  }
  return all;
}

// Llama with Llama 3's rope, odd head sizes and a head of its own; biases; Conv1D, learned positions and a fused qkv.
describe.each<TinyFamily>(["llama", "qwen2", "gpt2"])("a tiny %s", (family) => {
  test("runs from its GGUF as from its folder", async () => {
    const files = tinyModel(family);
    const [folder, gguf] = [await load(files), await load(await exported(files, "f32"))];
    const [theirs, ours] = [await run(folder, byteTokenizerSize), await run(gguf, byteTokenizerSize)];
    expect(distance(theirs.hidden, ours.hidden)).toBeLessThan(1e-6);
    expect(distance(theirs.logits, ours.logits)).toBeLessThan(1e-6);
    for (const text of texts) expect(gguf.encode(text)).toEqual(folder.encode(text));
    expect(gguf.info().eosIds).toEqual(folder.info().eosIds);
    for (const field of ["tied", "rows", "vocabSize", "paddedRows", "padding"] as const)
      expect([field, gguf.info()[field]]).toEqual([field, folder.info()[field]]);
    expect(gguf.info()).toMatchObject({ vocabSize: byteTokenizerSize, paddedRows: 5, padding: "masked" });
    const sums = [await logSumExp(folder), await logSumExp(gguf)];
    expect(Math.abs(sums[0] - sums[1])).toBeLessThan(1e-5);
    await folder.close();
    await gguf.close();
  });

  test("has the tensors that the converter would write", async () => {
    const ours = await openGguf(await exported(tinyModel(family), "f32"));
    const theirs = await openGguf(tinyGguf(family));
    expect([...ours.tensors.keys()].sort()).toEqual([...theirs.tensors.keys()].sort());
    for (const [name, { shape }] of theirs.tensors) {
      expect([name, ours.tensors.get(name)!.shape]).toEqual([name, shape]);
      const numbers = (checkpoint: Checkpoint) =>
        checkpoint.vector(
          name,
          shape.reduce((a, b) => a * b, 1),
        );
      const [left, right] = [await numbers(ours), await numbers(theirs)];
      // Frequencies' factors are worked out in another order.
      if (name === "rope_freqs.weight")
        expect(left.every((x, i) => Math.abs(x - right[i]) < 1e-5)).toBe(true);
      else expect(left).toEqual(right);
    }
  });
});

describe("rotary positions", () => {
  test.each<[string, Json]>([
    ["scaled by one factor", { rope_scaling: { type: "linear", factor: 4 }, rope_theta: 500000 }],
    [
      "in rope_parameters",
      { rope_scaling: null, rope_parameters: { rope_type: "default", rope_theta: 700 } },
    ],
  ])("%s", async (_, config) => {
    const files = tinyModel("llama", 1, { config });
    const source = await exported(files, "f32");
    const { metadata, tensors } = await readGgufHeader(source);
    expect(tensors.some(({ name }) => name === "rope_freqs.weight")).toBe(false);
    expect(metadata.get("llama.rope.freq_base")).toBe(config.rope_theta ?? 700);
    const linear = metadata.get("llama.rope.scaling.type");
    expect([linear, metadata.get("llama.rope.scaling.factor")]).toEqual(
      config.rope_theta ? ["linear", 4] : [undefined, undefined],
    );
    const [folder, gguf] = [await load(files), await load(source)];
    const [theirs, ours] = [await run(folder, byteTokenizerSize), await run(gguf, byteTokenizerSize)];
    expect(distance(theirs.hidden, ours.hidden)).toBeLessThan(1e-6);
    await folder.close();
    await gguf.close();
  });
});

test.each<[GgufExportType, number]>([
  ["f32", 0],
  ["f16", 2 ** -11],
])("a bf16 matrix is widened, then stored as %s", async (type, error) => {
  const name = "model.layers.1.mlp.up_proj.weight";
  let upper = new Uint16Array(0);
  const files = tinyModel("llama", 1, {
    tensors: (tensors) => {
      const words = new Uint32Array(Float32Array.from(tensors[name].data as number[]).buffer);
      upper = Uint16Array.from(words, (word) => word >>> 16);
      const data = new Uint8Array(upper.buffer);
      Object.assign(tensors, { [name]: { dtype: "BF16", shape: tensors[name].shape, data } });
    },
  });
  const exact = new Float32Array(Uint32Array.from(upper, (word) => word << 16).buffer);
  const checkpoint = await openGguf(await exported(files, type));
  const stored = checkpoint.tensors.get("blk.1.ffn_up.weight")!;
  expect(stored.type).toBe(type);
  const numbers = await checkpoint.vector(stored.name, exact.length);
  expect(exact.some((x) => Math.abs(x) > 0.1)).toBe(true);
  expect(
    numbers.every((x, i) => Math.abs(x - exact[i]) <= error * Math.abs(exact[i]) + error * 2 ** -14),
  ).toBe(true);
});
