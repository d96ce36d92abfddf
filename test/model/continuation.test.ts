import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { continuationIds } from "../../src/model/continuation.js";
import { bytesSource } from "../../src/model/formats/files.js";
import { readGgufHeader } from "../../src/model/formats/gguf-header.js";
import { tokenizerFromJson } from "../../src/model/tokenizer/from-files.js";
import { tokenizerFromGguf } from "../../src/model/tokenizer/from-gguf.js";
import type { Tokenizer } from "../../src/model/tokenizer/tokenizer.js";
import { LanguageModel } from "../../src/node.js";
import { makeGguf } from "../fixtures/make-gguf.js";
import { byteLevelJson, scoredGguf } from "../fixtures/make-tokenizer.js";
import { shared, sharedPath } from "../shared.js";

const header = await readGgufHeader(bytesSource("x.gguf", makeGguf({ metadata: scoredGguf() })));
const prepending = tokenizerFromGguf("x.gguf", header.metadata)!;

const plain = byteLevelJson();
const prefixing = tokenizerFromJson("prefixing", {
  ...plain,
  pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "ByteLevel", add_prefix_space: true }] },
});
const pieces = ["<unk>", "<s>", ..."▁thecab", "▁cat", "cat", "the", "▁the", "at"];
/** Unigram as T5 and newer Llama files have it. */
const metaspace = (scheme: string, config = {}) =>
  tokenizerFromJson(
    scheme,
    {
      added_tokens: [
        { id: 0, content: "<unk>", special: true },
        { id: 1, content: "<s>", special: true },
      ],
      normalizer: null,
      pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: scheme },
      decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: scheme },
      model: { type: "Unigram", unk_id: 0, vocab: pieces.map((piece) => [piece, -1]) },
    },
    config,
  );

const tokenizers: [string, Tokenizer][] = [
  ["SentencePiece that prepends", prepending],
  ["Metaspace, always", metaspace("always")],
  ["Metaspace, first", metaspace("first", { remove_space: true })],
  ["bytes with a prefix space", prefixing],
  ["bytes", tokenizerFromJson("bytes", plain)],
];

describe.each(tokenizers)("text that goes on, by %s", (_, tokenizer) => {
  const prompt = tokenizer.encode("a cat", { addSpecialTokens: false });
  const read = (ids: readonly number[]) => {
    const stream = tokenizer.textStream({ after: prompt });
    return ids.map((id) => stream.push(id)).join("") + stream.end();
  };

  it("is the text itself, to the character", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[the cab]{1,20}$/), (text) => {
        expect(read(continuationIds(tokenizer, text, prompt))).toBe(text);
      }),
    );
  });

  it("is the tokens that the whole text would have", () => {
    const id = (token: string) => tokenizer.encode(token, { addSpecialTokens: false, continues: true });
    expect(continuationIds(tokenizer, " the cat", prompt)).toEqual(
      tokenizer.encode("a cat the cat", { addSpecialTokens: false }).slice(prompt.length),
    );
    expect(tokenizer.tokens(id("cat"))).toEqual(["cat"]);
    expect(id(" cat")).toHaveLength(1);
    expect(id(" cat")).not.toEqual(id("cat"));
  });
});

it("a text that begins after special tokens has the tokenizer's own space", () => {
  const begin = [1];
  for (const text of ["the cat", " the cat"])
    expect(prepending.tokens(continuationIds(prepending, text, begin))).toEqual(["▁the", "▁cat"]);
});

describe.skipIf(!shared)("a model's answer about text that goes on", () => {
  it("has no space but its own, whatever the tokenizer puts before a text", async () => {
    const model = await LanguageModel.load(sharedPath("models/stories260K"), { device: "reference" });
    const next = await model.next("Once upon a");
    const [first] = await next.top(1);
    expect(first.token).toBe(" time");
    expect(await next.rank(" time")).toBe(1);
    expect(await next.logProb(" time")).toBeCloseTo(first.logProb, 6);
    // "he" after "t" is not " he": its token has no space.
    const [he, spaced] = ["he", "▁he"].map((token) => model.tokenizer!.idOf(token)!);
    const joined = await model.next("Once upon a time, t");
    expect(await joined.logProb("he")).toBe(await joined.logProb(he));
    expect(await joined.logProb(" he")).toBe(await joined.logProb(spaced));
    expect(await joined.rank("he")).toBeLessThan(await joined.rank(" he"));
    await model.close();
  });
});
