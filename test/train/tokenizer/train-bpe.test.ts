import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AbortError } from "../../../src/errors.js";
import { tokenizerFromJson } from "../../../src/model/tokenizer/from-files.js";
import { wordsOf } from "../../../src/train/tokenizer/byte-level.js";
import { type BpeProgress, type TrainBpeOptions, trainBpe } from "../../../src/train/tokenizer/train-bpe.js";
import { shared, sharedPath } from "../../shared.js";

/** Made by make_bpe.py with Hugging Face's `tokenizers`. */
const fixture = JSON.parse(readFileSync(new URL("../fixtures/bpe.json", import.meta.url), "utf8"));

interface Model {
  vocab: Record<string, number>;
  merges: [string, string][];
}

async function learnt(texts: Iterable<string>, options: TrainBpeOptions) {
  const { json, vocabSize } = await trainBpe(texts, options);
  const { vocab, merges } = json.model as Model;
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(vocab)) tokens[id] = token;
  expect(tokens.length).toBe(vocabSize);
  return { tokens, merges: merges.map((pair) => pair.join(" ")) };
}

const sha256 = (parts: string[]) => createHash("sha256").update(parts.join("\n")).digest("hex");

describe("what Hugging Face's trainer learns", () => {
  test("the whole tokenizer.json, field for field, and what it encodes to", async () => {
    const { texts, json: theirs, ids } = fixture.whole;
    const { json, complete } = await trainBpe(texts, { vocabSize: 280 });
    expect(json).toEqual(JSON.parse(theirs));
    expect(complete).toBe(true);
    const tokenizer = tokenizerFromJson("mine", JSON.parse(JSON.stringify(json)));
    for (const [i, text] of texts.entries()) {
      expect(tokenizer.encode(text)).toEqual(ids[i]);
      expect(tokenizer.decode(ids[i])).toBe(text);
    }
    expect(tokenizer.encode("<|endoftext|>")).toEqual([0]);
  });

  test.each(Array.from(fixture.cases.keys()) as number[])("small texts of many ties, %i", async (i) => {
    const { texts, options, merges, learnt: tokens } = fixture.cases[i];
    const ours = await learnt(texts, options);
    expect(ours.merges).toEqual(merges.split("\n"));
    expect(ours.tokens.slice(options.specialTokens.length + 256)).toEqual(tokens.split("\n"));
  });

  describe.skipIf(!shared)("corpora", () => {
    test.each(Array.from(fixture.corpora.keys()) as number[])("%i", async (i) => {
      const theirs = fixture.corpora[i];
      const text = readFileSync(sharedPath(`corpora/${theirs.file}`), "utf8");
      const ours = await learnt(theirs.lines ? text.split(/(?<=\n)/) : [text], {
        vocabSize: theirs.vocabSize,
      });
      expect(ours.merges.slice(-4)).toEqual(theirs.lastMerges);
      expect(ours.tokens.length).toBe(theirs.tokens);
      expect(sha256(ours.merges)).toBe(theirs.mergesSha256);
      expect(sha256(ours.tokens)).toBe(theirs.vocabSha256);
    });
  });
});

/** The plain rule: count all pairs anew, merge the best everywhere. Equal to the trainer while no token is made twice. */
function plain(words: readonly string[], steps: number): string[] {
  const split = words.map((word) => [...word]);
  const ids = [...new Set(words.join(""))].sort();
  const merges: string[] = [];
  for (let step = 0; step < steps; step++) {
    const counts = new Map<string, number>();
    for (const word of split)
      for (let i = 1; i < word.length; i++) {
        const pair = `${word[i - 1]} ${word[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    const order = (pair: string) => pair.split(" ").map((piece) => ids.indexOf(piece));
    const [best] = [...counts].sort(([a, m], [b, n]) => {
      const [x, y] = [order(a), order(b)];
      return n - m || x[0] - y[0] || x[1] - y[1];
    });
    if (!best) break;
    const [left, right] = best[0].split(" ");
    if (ids.includes(left + right)) break;
    merges.push(best[0]);
    ids.push(left + right);
    for (const word of split)
      for (let i = 1; i < word.length; i++)
        if (word[i - 1] === left && word[i] === right) word.splice(i - 1, 2, left + right);
  }
  return merges;
}

test("the rule as it is said, recounted after each merge, until a token is made a second time", async () => {
  let merged = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.stringMatching(/^[abcd]{1,12}$/), { minLength: 1, maxLength: 12 }),
      async (words) => {
        const expected = plain(words, 20);
        const { merges } = await learnt(words, {
          vocabSize: 256 + expected.length,
          minFrequency: 0,
          specialTokens: [],
        });
        expect(merges).toEqual(expected);
        merged += merges.length;
      },
    ),
    { numRuns: 300 },
  );
  expect(merged).toBeGreaterThan(500);
});

test("words are the text, in order", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string({ unit: "binary" }), fc.stringMatching(/^[a1 .'st\n\u0085]*$/u)),
      (text) => {
        expect([...wordsOf(text)].join("")).toBe(text);
      },
    ),
  );
  expect([...wordsOf("I'll  go\n\n on\u00a0 42x")]).toEqual([
    "I",
    "'ll",
    " ",
    " go",
    "\n\n",
    " on",
    "\u00a0",
    " 42",
    "x",
  ]);
});

test("texts may come one after the other, and say how far they are", async () => {
  async function* slowly() {
    for (const text of ["low lower", " lowest"]) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      yield text;
    }
  }
  const seen: BpeProgress[] = [];
  const trained = await trainBpe(slowly(), { vocabSize: 260, onProgress: (progress) => seen.push(progress) });
  expect(trained.json).toEqual((await trainBpe(["low lower", " lowest"], { vocabSize: 260 })).json);
  expect(seen[0]).toEqual({ stage: "read", characters: 9, words: 2 });
  expect(seen.at(-1)).toEqual({ stage: "merge", tokens: 260, vocabSize: 260 });
});

test("a text with fewer pairs than asked for: what there is, and says so", async () => {
  const trained = await trainBpe(["ab ab"], { vocabSize: 1000 });
  expect([trained.vocabSize, trained.complete, trained.words]).toEqual([258, false, 2]);
});

test("lone surrogates are U+FFFD, as in encoding", async () => {
  const [lone, replaced] = await Promise.all(
    ["a\ud800b a\ud800b", "a\ufffdb a\ufffdb"].map((text) => trainBpe([text], { vocabSize: 262 })),
  );
  expect(lone.json).toEqual(replaced.json);
});

describe("refuses", () => {
  const refused = (texts: unknown, options: object, message: string) =>
    expect(trainBpe(texts as string[], options)).rejects.toThrow(
      expect.objectContaining({ name: "InputError", message: expect.stringContaining(message) }),
    );
  test("options out of range", async () => {
    await refused(
      ["a"],
      { vocabSize: 256 },
      "from 257 (1 special tokens and 256 bytes) to 16777216, got 256",
    );
    await refused(["a"], { vocabSize: Number.NaN }, "got null");
    await refused(["a"], { minFrequency: -1 }, "minFrequency");
    await refused(["a"], { addPrefixSpace: 1 }, "addPrefixSpace");
    await refused(["a"], { maxTokenLength: 1 }, "maxTokenLength");
    await refused(["a"], { vocab_size: 300 }, 'unknown option "vocab_size"');
    for (const specialTokens of ["x", [""], ["a"], ["<s>", "<s>"], [3]])
      await refused(["a"], { specialTokens }, "specialTokens");
  });
  test("what are no texts", async () => {
    await refused("one text", {}, "a single text goes in brackets");
    await refused(null, {}, "iterable");
    await refused([], {}, "no character");
    await refused(["", ""], { addPrefixSpace: true }, "no character");
    await refused([3], {}, "expected strings, got number");
  });
  test("to go on after an abort", async () => {
    const controller = new AbortController();
    function* endless() {
      for (let i = 0; ; i++) yield `word${i} `.repeat(50);
    }
    setTimeout(() => controller.abort(), 30);
    await expect(trainBpe(endless(), { signal: controller.signal })).rejects.toThrow(AbortError);
    await expect(trainBpe(["a"], { signal: AbortSignal.abort() })).rejects.toThrow(AbortError);
  });
});
