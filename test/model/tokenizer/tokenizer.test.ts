import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import { bytesSource, memoryFiles } from "../../../src/model/formats/files.js";
import { readGgufHeader } from "../../../src/model/formats/gguf-header.js";
import { tokenizerFromFiles, tokenizerFromJson } from "../../../src/model/tokenizer/from-files.js";
import { tokenizerFromGguf } from "../../../src/model/tokenizer/from-gguf.js";
import { preTokenizerNames } from "../../../src/model/tokenizer/pre-tokenizers.js";
import type { Tokenizer } from "../../../src/model/tokenizer/tokenizer.js";
import { type GgufEntry, makeGguf } from "../../fixtures/make-gguf.js";
import { byteLevelGguf, byteLevelJson, scoredGguf, scoredTokens } from "../../fixtures/make-tokenizer.js";

const byteLevel = tokenizerFromJson("tokenizer.json", byteLevelJson(), {
  bos_token: "<|endoftext|>",
  eos_token: { content: "<|endoftext|>" },
});

async function fromGguf(metadata: Record<string, GgufEntry>): Promise<Tokenizer> {
  const header = await readGgufHeader(bytesSource("x.gguf", makeGguf({ metadata })));
  return tokenizerFromGguf("x.gguf", header.metadata)!;
}
const scored = await fromGguf(scoredGguf());

const anyText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: "grapheme" }),
  fc.stringMatching(/^[the ca\n]*$/),
);

describe("byte-level BPE", () => {
  test("merges, special tokens, ids of both", () => {
    expect(byteLevel.tokens(byteLevel.encode("the cat"))).toEqual(["the", "Ġcat"]);
    expect(byteLevel.encode("a<|endoftext|>b").includes(0)).toBe(true);
    expect(byteLevel.vocabSize).toBe(263);
    expect([byteLevel.bosId, byteLevel.eosIds, byteLevel.addsBos]).toEqual([0, [0], false]);
    expect(byteLevel.encode("")).toEqual([]);
    expect(byteLevel.idOf("the")).toBe(byteLevel.encode("the")[0]);
    expect(byteLevel.idOf("nothing")).toBeUndefined();
    expect(byteLevel.tokenText(byteLevel.encode(" cat")[0])).toBe(" cat");
  });

  test("text comes back from its ids, whole and streamed", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const whole = text.replace(/\p{Surrogate}/gu, "\uFFFD");
        for (const tokenizer of [byteLevel, scored]) {
          const ids = tokenizer.encode(text, { addSpecialTokens: false });
          const back = tokenizer.decode(ids);
          // SentencePiece writes spaces as "▁", and so reads one as a space.
          expect(back).toBe(tokenizer === scored ? whole.replaceAll("▁", " ") : whole);
          const stream = tokenizer.textStream();
          expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(back);
        }
      }),
      { numRuns: 500, examples: [["▁"], ["a▁ b"]] },
    );
  });

  test("any ids stream to what they decode to, and no piece ends inside a character", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(262), { maxLength: 30 }), (ids) => {
        for (const tokenizer of [byteLevel, scored]) {
          const stream = tokenizer.textStream();
          const pieces = ids.map((id) => stream.push(id));
          expect(pieces.join("") + stream.end()).toBe(tokenizer.decode(ids));
        }
      }),
    );
    const stream = byteLevel.textStream();
    const pieces = byteLevel.encode("é🙂").map((id) => stream.push(id));
    expect(pieces).toEqual(["", "é", "", "", "", "🙂"]);
    expect(stream.end()).toBe("");
    stream.push(byteLevel.encode("é")[0]);
    expect(stream.end()).toBe("\uFFFD");
  });

  test("ids outside the vocabulary", () => {
    for (const id of [-1, 1.5, 263, Number.NaN]) expect(() => byteLevel.decode([id])).toThrow(InputError);
    // Rows of a padded matrix have ids but no tokens.
    expect([byteLevel.token(263), byteLevel.textStream().push(263)]).toEqual(["", ""]);
    expect(() => byteLevel.token(-1)).toThrow(InputError);
  });

  test("a million equal characters take seconds, not hours", () => {
    for (const text of ["a".repeat(1e6), " ".repeat(1e6)]) {
      const ids = byteLevel.encode(text);
      expect(byteLevel.decode(ids).length).toBe(1e6);
      expect(scored.decode(scored.encode(text), { skipSpecialTokens: true }).length).toBe(1e6);
    }
  });
});

describe("from GGUF", () => {
  test("byte-level BPE gives the ids of its tokenizer.json", async () => {
    const tokenizer = await fromGguf(byteLevelGguf());
    fc.assert(
      fc.property(anyText, (text) => {
        expect(tokenizer.encode(text)).toEqual(byteLevel.encode(text));
      }),
    );
    expect([tokenizer.bosId, tokenizer.eosIds]).toEqual([0, [0]]);
  });

  test("every known pre-tokenizer is built and loses nothing", async () => {
    const text = "It's 12345 — WE'LL see: naïve Größe 日本語 한국어\n\n\t x_1!? <sentinel:1> 🙂  ";
    for (const pre of preTokenizerNames()) {
      const tokenizer = await fromGguf(byteLevelGguf(pre));
      expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: true }), pre).toBe(text);
    }
  });

  test("an unknown pre-tokenizer is named, other kinds are refused", async () => {
    await expect(fromGguf(byteLevelGguf("klingon-bpe"))).rejects.toThrow(/"klingon-bpe".*not known/);
    await expect(
      fromGguf({ ...byteLevelGguf(), "tokenizer.ggml.model": { type: "string", value: "t5" } }),
    ).rejects.toThrow(/"t5" is not supported yet/);
    await expect(
      fromGguf({ ...byteLevelGguf(), "tokenizer.ggml.bos_token_id": { type: "u32", value: 9999 } }),
    ).rejects.toThrow(/bos_token_id is 9999, but there are 263 tokens/);
    const { "tokenizer.ggml.merges": _, ...noMerges } = byteLevelGguf();
    await expect(fromGguf(noMerges)).rejects.toThrow(/merges is missing/);
  });

  test("SentencePiece merges by score, falls back to bytes, prefixes a space", () => {
    expect(scored.tokens(scored.encode("the cat"))).toEqual(["<s>", "▁the", "▁cat"]);
    expect(scored.tokens(scored.encode("é", { addSpecialTokens: false }))).toEqual(["▁", "<0xC3>", "<0xA9>"]);
    expect(scored.addsBos).toBe(true);
    expect(scored.eosIds).toEqual([2]);
  });

  test("rows that the converter named are padding, other unused tokens are not", async () => {
    const [NORMAL, USER_DEFINED, UNUSED] = [1, 4, 5];
    const more: [string, number][] = [
      ["<unused0>", UNUSED], // 263
      ["[PAD264]", UNUSED], // a row between tokens
      ["[PAD7]", UNUSED], // a name of its own
      ["[PAD266]", NORMAL], // 266
      ["[PAD267]", UNUSED],
      ["[PAD268]", USER_DEFINED], // of a converter before mid-2024
    ];
    for (const base of [byteLevelGguf(), scoredGguf()]) {
      const list = (key: string) => (base[`tokenizer.ggml.${key}`]?.value ?? []) as (string | number)[];
      const tokens = list("tokens") as string[];
      const shift = tokens.length - 263;
      const name = (token: string) =>
        token === "[PAD7]" ? token : token.replace(/\d{3}/, (id) => String(Number(id) + shift));
      const longer = {
        ...base,
        "tokenizer.ggml.tokens": {
          type: "array",
          of: "string",
          value: [...tokens, ...more.map(([token]) => name(token))],
        },
        "tokenizer.ggml.token_type": {
          type: "array",
          of: "i32",
          value: [...(list("token_type") as number[]), ...more.map(([, kind]) => kind)],
        },
        "tokenizer.ggml.padding_token_id": { type: "u32", value: 267 + shift },
        ...(list("scores").length > 0 && {
          "tokenizer.ggml.scores": {
            type: "array",
            of: "f32",
            value: [...(list("scores") as number[]), ...more.map(() => -1000)],
          },
        }),
      } as Record<string, GgufEntry>;
      const tokenizer = await fromGguf(longer);
      const [plain, at] = [await fromGguf(base), tokens.length];
      expect(tokenizer.vocabSize).toBe(at + 4);
      expect(tokenizer.token(at)).toBe("<unused0>");
      expect(tokenizer.tokens([at + 1, at + 2, at + 3])).toEqual(["", "[PAD7]", name("[PAD266]")]);
      expect(tokenizer.padId).toBeUndefined();
      for (const text of ["the cat", name("[PAD268]")])
        expect(tokenizer.encode(text)).toEqual(plain.encode(text));
    }
  });

  test("SentencePiece's merges give what its algorithm gives", () => {
    const score = new Map(scoredTokens.filter(({ kind }) => kind === 1).map((t) => [t.token, t.score]));
    fc.assert(
      fc.property(fc.stringMatching(/^[the ca]{0,40}$/), (text) => {
        const symbols = text === "" ? [] : [...`▁${text}`.replaceAll(" ", "▁")];
        for (;;) {
          let best = -1;
          for (let i = 0; i + 1 < symbols.length; i++) {
            const joined = score.get(symbols[i] + symbols[i + 1]);
            if (joined === undefined) continue;
            if (best < 0 || joined > score.get(symbols[best] + symbols[best + 1])!) best = i;
          }
          if (best < 0) break;
          symbols.splice(best, 2, symbols[best] + symbols[best + 1]);
        }
        expect(scored.tokens(scored.encode(text, { addSpecialTokens: false }))).toEqual(symbols);
      }),
    );
  });
});

describe("malformed files", () => {
  interface Parts {
    model?: { type: string; vocab: Record<string, unknown>; merges: unknown };
    pre_tokenizer: unknown;
    added_tokens: unknown[];
  }
  const cases: [string, (json: Parts) => unknown, RegExp][] = [
    ["no model", (json) => delete json.model, /model: expected an object/],
    ["id no number", (json) => (json.model!.vocab.the = "x"), /has the id "x"/],
    ["id huge", (json) => (json.model!.vocab.the = 1e15), /expected a whole number/],
    ["merge of unknown tokens", (json) => (json.model!.merges as string[]).push("q zz"), /merges\[6\] joins/],
    ["merges no array", (json) => (json.model!.merges = 3), /merges: expected an array/],
    ["model type", (json) => (json.model!.type = "Magic"), /"Magic" is not supported/],
    ["pre-tokenizer type", (json) => (json.pre_tokenizer = { type: "Magic" }), /can't be used/],
    [
      "a behaviour that the library does not know",
      (json) =>
        (json.pre_tokenizer = { type: "Split", pattern: { String: " " }, behavior: "MergedWithPrevious" }),
      /MergedWithPrevious/,
    ],
    ["added token without content", (json) => json.added_tokens.push({ id: 1 }), /added_tokens\[1\]/],
  ];
  test.each(cases)("%s", (_, damage, message) => {
    const json = byteLevelJson();
    damage(json as unknown as Parts);
    expect(() => tokenizerFromJson("tokenizer.json", json)).toThrow(InputError);
    expect(() => tokenizerFromJson("tokenizer.json", json)).toThrow(message);
  });

  test("bytes that are no JSON, and no file at all", async () => {
    await expect(tokenizerFromFiles(memoryFiles("m", { "tokenizer.json": "{" }))).rejects.toThrow(
      /not valid JSON/,
    );
    expect(await tokenizerFromFiles(memoryFiles("m", {}))).toBeUndefined();
  });

  test("any damage is an InputError or a working tokenizer", async () => {
    const text = JSON.stringify(byteLevelJson());
    // Half of the damage falls on the structure around the vocabulary.
    const head = text.indexOf('"vocab"');
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(fc.oneof(fc.nat(head), fc.nat(text.length - 1)), fc.constantFrom(...'0[]{},:"nx -')),
          {
            minLength: 1,
            maxLength: 3,
          },
        ),
        async (edits) => {
          const damaged = [...text];
          for (const [at, c] of edits) damaged[at] = c;
          try {
            const tokenizer = (await tokenizerFromFiles(
              memoryFiles("m", { "tokenizer.json": damaged.join("") }),
            ))!;
            tokenizer.decode(tokenizer.encode("the cat, é"));
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });

  test("values of other types in a GGUF file's tokenizer are InputErrors", async () => {
    const good = byteLevelGguf();
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...Object.keys(good)),
        fc.constantFrom<GgufEntry>(
          { type: "u32", value: 7 },
          { type: "string", value: "gpt2" },
          { type: "bool", value: true },
          { type: "array", of: "i32", value: [1, 2] },
          { type: "array", of: "string", value: ["a", "b c"] },
        ),
        async (key, entry) => {
          try {
            (await fromGguf({ ...good, [key]: entry })).encode("the cat");
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
    );
  });
});

describe("the files of a tokenizer", () => {
  const kinds: Record<string, () => Promise<Tokenizer>> = {
    "tokenizer.json": async () => byteLevel,
    "a GGUF file, byte-level BPE": () => fromGguf(byteLevelGguf()),
    "the same with a begin and an end token": () =>
      fromGguf({
        ...byteLevelGguf(),
        "tokenizer.ggml.add_bos_token": { type: "bool", value: true },
        "tokenizer.ggml.add_eos_token": { type: "bool", value: true },
        "tokenizer.ggml.padding_token_id": { type: "u32", value: 0 },
      }),
    "a GGUF file, SentencePiece": async () => scored,
  };
  test.each(Object.keys(kinds))("make it again: %s", async (kind) => {
    const tokenizer = await kinds[kind]();
    const { json, config } = JSON.parse(JSON.stringify(tokenizer.files)) as typeof tokenizer.files;
    const again = tokenizerFromJson("again", json, config);
    fc.assert(
      fc.property(anyText, (text) => {
        expect(again.encode(text)).toEqual(tokenizer.encode(text));
      }),
      { numRuns: 200 },
    );
    const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id);
    expect(again.decode(ids)).toBe(tokenizer.decode(ids));
    for (const field of ["vocabSize", "bosId", "eosIds", "unkId", "padId", "addsBos", "specialIds"] as const)
      expect(again[field], field).toEqual(tokenizer[field]);
  });
});
