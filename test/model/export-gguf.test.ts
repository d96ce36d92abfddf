import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { InputError } from "../../src/errors.js";
import {
  exportGguf,
  type GgufExportInput,
  type GgufExportType,
  openGgufExport,
} from "../../src/model/export-gguf.js";
import type { ByteSource, Checkpoint, FileSet } from "../../src/model/formats/checkpoint.js";
import { bytesSource, memoryFiles, readJson } from "../../src/model/formats/files.js";
import { openGguf } from "../../src/model/formats/gguf.js";
import { readGgufHeader } from "../../src/model/formats/gguf-header.js";
import { ggufChunks } from "../../src/model/formats/gguf-write.js";
import { type MemoryTensor, memoryCheckpoint } from "../../src/model/formats/memory.js";
import { openSafetensorsFolder } from "../../src/model/formats/safetensors.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { initialModel } from "../../src/train/initial/initial-model.js";
import { trainBpe } from "../../src/train/tokenizer/train-bpe.js";
import { byteTokenizer, byteTokenizerSize } from "../fixtures/byte-tokenizer.js";
import { makeSafetensors } from "../fixtures/make-safetensors.js";
import { tinyGguf } from "../fixtures/tiny-gguf.js";
import { type Bend, type TinyFamily, tinyModel } from "../fixtures/tiny-models.js";

type Json = Record<string, unknown>;
const END = "<|endoftext|>";
const texts = [
  "",
  "The cat sat on the mat.",
  "  two spaces, a tab\tand\n\nlines",
  "I'll don't we've — 1234 ½ naïve 日本語 🙂",
  `before${END}after`,
  "\u0000\u007f\u00ad",
];

function template(before: string[], after: string[]): Json {
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const single = [...before.map(special), { Sequence: { id: "A", type_id: 0 } }, ...after.map(special)];
  const tokens = [...before, ...after].map((id) => [id, { id, ids: [0], tokens: [id] }]);
  return { type: "TemplateProcessing", single, pair: single, special_tokens: Object.fromEntries(tokens) };
}

/** What a Hugging Face folder holds, as the export takes it. */
async function inputOf(files: FileSet, bend: Partial<GgufExportInput> = {}): Promise<GgufExportInput> {
  return {
    name: files.name,
    config: (await readJson(files, "config.json"))!,
    tokenizer: {
      json: (await readJson(files, "tokenizer.json"))!,
      config: await readJson(files, "tokenizer_config.json"),
    },
    generation: await readJson(files, "generation_config.json"),
    checkpoint: await openSafetensorsFolder(files),
    ...bend,
  };
}

async function exported(
  files: FileSet,
  type: GgufExportType,
  bend: Partial<GgufExportInput> = {},
): Promise<ByteSource> {
  return bytesSource("made.gguf", await exportGguf(await inputOf(files, bend), { type }));
}

const load = (files: FileSet | ByteSource) => LanguageModel.load(files, { threads: 1 });

/** The largest difference as a share of the largest number. */
function distance(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  const largest = a.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  expect(largest).toBeGreaterThan(0.1);
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0) / largest;
}

/** Hidden states of all positions, and the logits of the first V ids at the last one. */
async function run(model: LanguageModel, V: number) {
  const ids = { ids: [3, 17, 99, 4, 260, 17, 17, 250] };
  const { hidden } = await model.hidden(ids);
  const logits = await (await model.next(ids)).logits();
  return { hidden, logits: logits.slice(0, V) };
}

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
    expect(gguf.info().tied).toBe(folder.info().tied);
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

describe("tokenizers", () => {
  const base = byteTokenizer();
  const size = byteTokenizerSize;
  const files = (json: Json, config: Json = {}, more: Bend = {}) =>
    tinyModel("qwen2", 1, {
      ...more,
      files: {
        ...more.files,
        "tokenizer.json": JSON.stringify(json),
        "tokenizer_config.json": JSON.stringify(config),
      },
    });
  const added = (id: number, content: string, special: boolean) => ({
    ...(base.added_tokens as Json[])[0],
    id,
    content,
    special,
  });
  const metadataOf = async (set: FileSet) => (await readGgufHeader(await exported(set, "f16"))).metadata;

  test("special, other added and missing tokens have their kinds", async () => {
    const [first] = base.added_tokens as Json[];
    const json = {
      ...base,
      added_tokens: [first, added(size, "<tool>", false), added(size + 2, "<s>", true)],
    };
    const metadata = await metadataOf(files(json, { pad_token: "<s>", chat_template: "{{ messages }}" }));
    const kinds = Array.from(metadata.get("tokenizer.ggml.token_type") as Int32Array).slice(size - 2);
    expect(kinds).toEqual([1, 3, 4, 5, 3, 5, 5]);
    const tokens = (metadata.get("tokenizer.ggml.tokens") as string[]).slice(size - 1);
    const pads = [1, 3, 4].map((i) => `[PAD${size + i}]`);
    expect(tokens).toEqual(["<|end|>", "<tool>", pads[0], "<s>", pads[1], pads[2]]);
    expect(metadata.get("tokenizer.ggml.padding_token_id")).toBe(size + 2);
    expect(metadata.get("tokenizer.chat_template")).toBe("{{ messages }}");
  });

  test.each<[string, string[], string[], Json]>([
    ["nothing", [], [], { add_bos_token: false, add_eos_token: false, bos_token_id: size - 1 }],
    [
      "BOS",
      ["<s>"],
      [],
      { add_bos_token: true, add_eos_token: false, bos_token_id: size, eos_token_id: size - 1 },
    ],
    [
      "both",
      ["<s>"],
      ["</s>"],
      { add_bos_token: true, bos_token_id: size, eos_token_id: size + 1, eot_token_id: size - 1 },
    ],
    ["EOS", [], ["<|end|>"], { add_bos_token: false, add_eos_token: true, eos_token_id: size - 1 }],
  ])("adds %s as the folder's does", async (_, before, after, expected) => {
    const [first] = base.added_tokens as Json[];
    const ids = new Map<string, number>([
      ["<|end|>", size - 1],
      ["<s>", size],
      ["</s>", size + 1],
    ]);
    const processor = template(before, after);
    const special = [...before, ...after].map((id) => [id, { id, ids: [ids.get(id)], tokens: [id] }]);
    const json = {
      ...base,
      added_tokens: [first, added(size, "<s>", true), added(size + 1, "</s>", true)],
      post_processor: { ...processor, special_tokens: Object.fromEntries(special) },
    };
    const set = files(json);
    const metadata = await metadataOf(set);
    for (const [key, value] of Object.entries(expected))
      expect([key, metadata.get(`tokenizer.ggml.${key}`)]).toEqual([key, value]);
    const [folder, gguf] = [await load(set), await load(await exported(set, "f16"))];
    for (const text of texts) expect(gguf.encode(text)).toEqual(folder.encode(text));
    expect(gguf.encode("x")).toHaveLength(1 + before.length + after.length);
    await folder.close();
    await gguf.close();
  });

  test("SmolLM's digits one by one", async () => {
    const steps = [
      { type: "Digits", individual_digits: true },
      { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    ];
    const model = base.model as { vocab: Record<string, number>; merges: string[][] };
    // A merge of two digits, which only the other words would apply.
    const vocab = { ...model.vocab, "12": size };
    const json = {
      ...base,
      model: { ...model, vocab, merges: [...model.merges, ["1", "2"]] },
      pre_tokenizer: { type: "Sequence", pretokenizers: steps },
    };
    const set = files(json);
    expect((await metadataOf(set)).get("tokenizer.ggml.pre")).toBe("smollm");
    const [folder, gguf] = [await load(set), await load(await exported(set, "f16"))];
    for (const text of [...texts, "a 12 b12", "12"]) expect(gguf.encode(text)).toEqual(folder.encode(text));
    expect(gguf.encode("12")).toHaveLength(2);
    await folder.close();
    await gguf.close();
  });

  test("the end tokens of generation_config.json win, and all of them end a text", async () => {
    const generation = JSON.stringify({ eos_token_id: [5, 9, 7], do_sample: true, temperature: 0.5 });
    const set = files(base, {}, { files: { "generation_config.json": generation } });
    const metadata = await metadataOf(set);
    const ids = ["eos", "eot", "eom"].map((kind) => metadata.get(`tokenizer.ggml.${kind}_token_id`));
    expect(ids).toEqual([5, 9, 7]);
    const gguf = await load(await exported(set, "f16"));
    // <|end|> ends a text by its spelling, as in llama.cpp.
    expect(gguf.info().eosIds).toEqual([5, 7, 9, size - 1]);
    await gguf.close();
  });

  const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: true };
  const model = base.model as Json;
  const { "!": _, ...noBang } = model.vocab as Record<string, number>;
  const spaced = { ...(model.vocab as Json), "a b": size };
  test.each<[string, Json, RegExp]>([
    [
      "a prefix space",
      { pre_tokenizer: { ...byteLevel, add_prefix_space: true } },
      /pre_tokenizer: expected ByteLevel/,
    ],
    ["no words", { pre_tokenizer: { ...byteLevel, use_regex: false } }, /pre_tokenizer: expected ByteLevel/],
    ["no pre-tokenizer", { pre_tokenizer: null }, /pre_tokenizer: expected ByteLevel/],
    [
      "other words",
      {
        pre_tokenizer: {
          type: "Sequence",
          pretokenizers: [{ type: "Digits", individual_digits: false }, byteLevel],
        },
      },
      /pre_tokenizer: expected ByteLevel alone, or after Digits/,
    ],
    ["a normalizer", { normalizer: { type: "NFC" } }, /normalizer: expected none/],
    ["another decoder", { decoder: { type: "Fuse" } }, /model: expected a byte-level BPE/],
    ["whole words first", { model: { ...model, ignore_merges: true } }, /model.ignore_merges: expected none/],
    [
      "a byte without a token",
      { model: { ...model, vocab: noBang } },
      /model.vocab: expected a token for each byte/,
    ],
    [
      "a token with a space",
      { model: { ...model, vocab: spaced } },
      /model.vocab: expected tokens without spaces/,
    ],
    [
      "a token that takes spaces",
      { added_tokens: [{ ...added(size, "<x>", true), lstrip: true }] },
      /<x>: .*lstrip/,
    ],
    ["a token twice", { added_tokens: [added(size, "a", true)] }, /two ids have the same token/],
    ["more ids than rows", { added_tokens: [added(9999, "<x>", true)] }, /ids up to 9999, .* has 266 rows/],
    ["two tokens before", { post_processor: template(["a", "b"], []) }, /puts ids .* before a text/],
  ])("refuses %s", async (_, change, message) => {
    const made = exported(files({ ...base, ...change }), "f16");
    await expect(made).rejects.toThrow(InputError);
    await expect(made).rejects.toThrow(message);
  });
});

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
