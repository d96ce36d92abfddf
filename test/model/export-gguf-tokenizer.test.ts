import { describe, expect, test } from "vitest";
import { InputError } from "../../src/errors.js";
import type { FileSet } from "../../src/model/formats/checkpoint.js";
import { readGgufHeader } from "../../src/model/formats/gguf-header.js";
import { byteTokenizer, byteTokenizerSize } from "../fixtures/byte-tokenizer.js";
import { type Bend, tinyModel } from "../fixtures/tiny-models.js";
import { exported, type Json, load, template, texts } from "./gguf-export.js";

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
