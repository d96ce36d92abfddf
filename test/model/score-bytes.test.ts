import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesSource } from "../../src/model/formats/files.js";
import { readGgufHeader } from "../../src/model/formats/gguf-header.js";
import { folderFiles } from "../../src/model/formats/node-files.js";
import { predictedBytes } from "../../src/model/score-bytes.js";
import { tokenizerFromFiles, tokenizerFromJson } from "../../src/model/tokenizer/from-files.js";
import { tokenizerFromGguf } from "../../src/model/tokenizer/from-gguf.js";
import { LanguageModel } from "../../src/node.js";
import { type GgufEntry, makeGguf } from "../fixtures/make-gguf.js";
import { byteLevelJson, scoredGguf } from "../fixtures/make-tokenizer.js";
import { shared, sharedPath } from "../shared.js";

async function scoredTokenizer(more: Record<string, GgufEntry> = {}) {
  const metadata = { ...scoredGguf(), ...more };
  const header = await readGgufHeader(bytesSource("x.gguf", makeGguf({ metadata })));
  return tokenizerFromGguf("x.gguf", header.metadata)!;
}
const scored = await scoredTokenizer();
const ended = await scoredTokenizer({ "tokenizer.ggml.add_eos_token": { type: "bool", value: true } });
const bare = await scoredTokenizer({ "tokenizer.ggml.add_bos_token": { type: "bool", value: false } });
const byteLevel = tokenizerFromJson("tokenizer.json", byteLevelJson());

describe("bytes that are predicted", () => {
  test("after BOS all of the text's, and no dummy space", () => {
    const anyText = fc.oneof(fc.string({ unit: "grapheme" }), fc.stringMatching(/^[the ca]{1,20}$/));
    fc.assert(
      fc.property(anyText, (text) => {
        const bytes = Buffer.byteLength(text);
        for (const tokenizer of [scored, ended]) {
          const ids = tokenizer.encode(text);
          expect(predictedBytes(tokenizer, ids, text)).toBe(bytes);
          expect(predictedBytes(tokenizer, ids)).toBe(bytes);
        }
      }),
    );
  });

  test("without BOS all but the first token's", () => {
    // ▁the ▁cat, and the bytes of é one by one.
    const ids = bare.encode("the caté");
    expect(bare.tokens(ids)).toEqual(["▁the", "▁cat", "<0xC3>", "<0xA9>"]);
    for (const text of ["the caté", undefined]) expect(predictedBytes(bare, ids, text)).toBe(6);
    expect(byteLevel.tokens(byteLevel.encode("é"))).toHaveLength(2);
    for (const text of ["é the", undefined])
      expect(predictedBytes(byteLevel, byteLevel.encode("é the"), text)).toBe(5);
  });

  test("special tokens have none, wherever they stand", () => {
    expect(predictedBytes(scored, [1, ...bare.encode("the"), 2, ...bare.encode("cat"), 2])).toBe(7);
    const text = "<|endoftext|>the<|endoftext|> cat<|endoftext|>";
    const ids = byteLevel.encode(text);
    expect(ids.filter((id) => id === 0)).toHaveLength(3);
    for (const given of [text, undefined]) expect(predictedBytes(byteLevel, ids, given)).toBe(7);
  });

  test("a text's own, whatever a normalizer makes of them or no token can say", () => {
    const composing = tokenizerFromJson("tokenizer.json", {
      ...byteLevelJson(),
      normalizer: { type: "NFC" },
    });
    const text = "ae\u0301";
    expect(predictedBytes(composing, composing.encode(text), text)).toBe(3);
    expect(predictedBytes(composing, composing.encode(text))).toBe(2);
  });
});

describe.skipIf(!shared)("by Hugging Face", () => {
  test.each(["llama", "gemma2", "qwen2", "gpt2"])("%s: the bytes of decoded text", async (family) => {
    const tokenizer = (await tokenizerFromFiles(folderFiles(sharedPath(`cases/hf/${family}`))))!;
    const { tokenizer: cases } = JSON.parse(
      readFileSync(sharedPath(`cases/hf/${family}/expected.json`), "utf8"),
    ) as { tokenizer: { text: string; ids: number[]; decoded: string }[] };
    expect(cases.length).toBeGreaterThan(5);
    for (const { text, ids, decoded } of cases) {
      if (ids.length === 0) continue;
      const first = tokenizer.textBytes(ids)[0];
      expect(predictedBytes(tokenizer, ids) + first, text).toBe(Buffer.byteLength(decoded));
    }
  });

  test("stories260K: bits per byte of a text of 19 bytes", async () => {
    const model = await LanguageModel.load(sharedPath("models/stories260K"), { device: "reference" });
    const text = "The girl was happy.";
    const { sum, bitsPerByte } = await model.score(text);
    expect(bitsPerByte).toBeCloseTo(-sum / Math.LN2 / 19, 12);
    // The same ids, with an end and without.
    const ids = model.encode(text);
    expect((await model.score({ ids })).bitsPerByte).toBeCloseTo(bitsPerByte!, 12);
    const ended = await model.score({ ids: [...ids, 2] });
    expect(ended.bitsPerByte).toBeCloseTo(-ended.sum / Math.LN2 / 19, 12);
    await model.close();
  });
});
