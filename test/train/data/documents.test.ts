import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { AbortError } from "../../../src/errors.js";
import { type DocumentSplit, DocumentSplitter, PART } from "../../../src/train/data/document-splitter.js";
import { Corpus, type CorpusOptions } from "../../../src/train/data/documents.js";
import { Utf8Decoder } from "../../../src/train/data/utf8.js";
import { trainBpe } from "../../../src/train/tokenizer/train-bpe.js";

const folder = mkdtempSync(join(tmpdir(), "lmhead-documents-"));
afterAll(() => rmSync(folder, { recursive: true }));

let made = 0;
function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, String(made++));
  mkdirSync(path);
  writeFileSync(join(path, name), content);
  return join(path, name);
}

async function read(path: string, options?: CorpusOptions): Promise<string[]> {
  const texts: string[] = [];
  let open = "";
  for await (const { text, last } of (await Corpus.open(path, options)).documents()) {
    open += text;
    if (!last) continue;
    texts.push(open);
    open = "";
  }
  expect(open).toBe("");
  return texts;
}

/** The text in pieces of the given lengths, over and over. */
function pieces<T extends { length: number }>(
  whole: T,
  sizes: readonly number[],
  slice: (a: number, b: number) => T,
): T[] {
  const list: T[] = [];
  for (let at = 0, i = 0; at < whole.length; i++) {
    const size = sizes[i % sizes.length];
    list.push(slice(at, at + size));
    at += size;
  }
  return list;
}
const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 });

describe("UTF-8", () => {
  const decode = (bytes: Uint8Array, sizes: readonly number[]) => {
    const decoder = new Utf8Decoder("x.txt");
    const parts = pieces(bytes, sizes, (a, b) => bytes.subarray(a, b)).map((piece) => decoder.push(piece));
    decoder.end();
    return parts.join("");
  };
  /** The first byte from which on the platform's decoder takes no beginning, however it goes on. */
  const firstBad = (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length; ) {
      const length = [1, 2, 3, 4].find((n) => {
        try {
          new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.slice(at, at + n));
          return at + n <= bytes.length;
        } catch {
          return false;
        }
      });
      if (length === undefined) return at;
      at += length;
    }
    return -1;
  };

  test("text comes out as it went in, wherever it is cut", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), sizes, (given, sizes) => {
        const text = given.replace(/\p{Surrogate}/gu, "").replace(/^\uFEFF+/, "");
        expect(decode(new TextEncoder().encode(text), sizes)).toBe(text);
      }),
    );
    expect(decode(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61, 0xef, 0xbb, 0xbf), [1])).toBe("a\uFEFF");
    expect(decode(new Uint8Array(0), [1])).toBe("");
  });

  test("the first bad byte is found, wherever it is cut", () => {
    const byte = fc.oneof(
      fc.constantFrom(
        0x61,
        0x80,
        0xbf,
        0xc2,
        0xc1,
        0xe0,
        0xa0,
        0xed,
        0x9f,
        0xef,
        0xf0,
        0x90,
        0xf4,
        0x8f,
        0xf5,
        0xff,
      ),
      fc.integer({ min: 0, max: 255 }),
    );
    let bad = 0;
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 14 }), sizes, (list, sizes) => {
        const bytes = Uint8Array.from(list);
        const at = firstBad(bytes);
        if (at < 0) expect(() => decode(bytes, sizes)).not.toThrow();
        else {
          bad++;
          expect(() => decode(bytes, sizes)).toThrow(new RegExp(`^x\\.txt: byte ${at} (is not|cuts)`));
        }
      }),
      { numRuns: 3000 },
    );
    expect(bad).toBeGreaterThan(500);
  });

  test("in a file, also past a read's border", async () => {
    const bytes = new Uint8Array(600_000).fill(0x61);
    bytes.set([0xe2, 0x82], 2 ** 18 - 1);
    await expect(read(write("bad.txt", bytes))).rejects.toThrow(/bad\.txt: byte 262143 is not UTF-8/);
    await expect(read(write("cut.txt", Uint8Array.of(0x61, 0xf0, 0x9f)))).rejects.toThrow(
      "byte 1 cuts a character",
    );
    await expect(read(write("bad.jsonl", Uint8Array.of(0xff)))).rejects.toThrow("bad.jsonl: byte 0");
  });
});

describe("where documents end", () => {
  const cut = (text: string, split: DocumentSplit, sizes: readonly number[]) => {
    const splitter = new DocumentSplitter(split);
    const parts = pieces(text, sizes, (a, b) => text.slice(a, b)).flatMap((piece) => [
      ...splitter.push(piece),
    ]);
    parts.push(...splitter.end());
    expect(parts.every(({ last }) => last)).toBe(true);
    return parts.map(({ text }) => text);
  };
  const full = (texts: readonly string[]) => texts.filter((text) => text.trim() !== "");
  const text = fc.stringMatching(/^[ab \n\r<>]{0,40}$/);

  test("file, lines, separators: as a split of the whole text, wherever it is cut", () => {
    fc.assert(
      fc.property(text, sizes, (text, sizes) => {
        expect(cut(text, "file", sizes)).toEqual(full([text]));
        expect(cut(text, "lines", sizes)).toEqual(
          full(text.split("\n").map((line) => line.replace(/\r$/, ""))),
        );
        for (const separator of ["<>", "\n", "aba", "\n\n"])
          expect(cut(text, { separator }, sizes)).toEqual(full(text.split(separator)));
      }),
      { numRuns: 2000 },
    );
  });

  test("blank lines: as reading line by line, wherever it is cut", () => {
    const plain = (text: string) => {
      const documents = [""];
      for (const line of text.match(/[^\n]*\n|[^\n]+/g) ?? []) {
        if (line.trim() === "") documents.push("");
        else documents[documents.length - 1] += line;
      }
      // A document's last line break is no part of it.
      return full(documents).map((document) => document.replace(/\r?\n$/, ""));
    };
    fc.assert(
      fc.property(text, sizes, (text, sizes) => {
        expect(cut(text, "blank-lines", sizes)).toEqual(plain(text));
      }),
      { numRuns: 3000 },
    );
    expect(cut("\n\n a\nb\r\n \t\r\n\n\n  c\n", "blank-lines", [3])).toEqual([" a\nb", "  c"]);
  });
});

describe("files", () => {
  test("a folder's .txt and .jsonl files, sorted by path", async () => {
    const root = join(folder, "tree");
    mkdirSync(join(root, "b"), { recursive: true });
    writeFileSync(join(root, "b", "1.txt"), "third");
    writeFileSync(join(root, "a.jsonl"), '{"text":"first"}\r\n\n{"text":"second","id":3}');
    writeFileSync(join(root, "c.TXT"), "fourth\n");
    writeFileSync(join(root, "README.md"), "not read");
    expect(await read(root)).toEqual(["first", "second", "third", "fourth\n"]);
    expect(await read(join(root, "a.jsonl"), { field: "text" })).toEqual(["first", "second"]);
  });

  test("the hash is of contents and options, not of names", async () => {
    const hash = async (path: string, options?: CorpusOptions) => (await Corpus.open(path, options)).hash();
    const one = await hash(write("one.txt", "same"));
    expect(await hash(write("other.txt", "same"))).toBe(one);
    expect(await hash(write("one.txt", "sane"))).not.toBe(one);
    expect(await hash(write("one.txt", "same"), { split: "lines" })).not.toBe(one);
  });

  test("a long document comes in parts, and a tokenizer learns the same of them", async () => {
    let text = "";
    for (let i = 0; text.length < 5 * PART; i++)
      text += `word${i * 7919}  and, then${i % 3 ? "." : "!\n\n"} “ça” `;
    const corpus = await Corpus.open(write("long.txt", text));
    const parts: string[] = [];
    for await (const part of corpus.texts()) parts.push(part);
    expect(parts.length).toBeGreaterThan(3);
    expect(parts.join("")).toBe(text);
    for (const options of [{ vocabSize: 400 }, { vocabSize: 400, addPrefixSpace: true }])
      expect((await trainBpe(corpus.texts(), options)).json).toEqual((await trainBpe([text], options)).json);
  });

  test("a line without a space takes time by its length, not by its square", async () => {
    const text = "a".repeat(2 ** 24);
    const corpus = await Corpus.open(write("long.jsonl", JSON.stringify({ text })));
    let length = 0;
    for await (const part of corpus.texts()) length += part.length;
    expect(length).toBe(text.length);
  }, 20_000);

  test("a document without a space is cut between characters", async () => {
    const text = `a${"🙂".repeat(4 * PART)}`;
    const corpus = await Corpus.open(write("long.txt", text));
    const parts: string[] = [];
    for await (const part of corpus.texts()) parts.push(part);
    expect(parts.length).toBeGreaterThan(2);
    expect(parts.join("")).toBe(text);
    for (const part of parts) expect(part).not.toMatch(/\p{Surrogate}/u);
  });
});

describe("refuses", () => {
  const refused = (path: string, message: string, options?: CorpusOptions) =>
    expect(read(path, options)).rejects.toThrow(
      expect.objectContaining({ name: "InputError", message: expect.stringContaining(message) }),
    );
  test("what is no corpus", async () => {
    await refused(join(folder, "nowhere"), "no such file or folder");
    await refused(write("text.md", "a"), ".txt or .jsonl");
    const empty = join(folder, "empty");
    mkdirSync(empty);
    await refused(empty, "no .txt and no .jsonl file");
    await refused(write("x.txt", ""), "the corpus is empty");
    await refused(write("x.txt", " \n\n"), "the corpus is empty");
    await refused(write("x.jsonl", '{"text":""}\n'), "the corpus is empty");
  });
  test("lines that are not as they should be, by file and number", async () => {
    await refused(write("x.jsonl", '{"text":"a"}\n\n{"text":'), "x.jsonl, line 3: is not valid JSON");
    await refused(write("x.jsonl", "[1]"), "line 1: expected a JSON object, got an array");
    await refused(write("x.jsonl", '{"body":"a"}'), 'line 1: has no field "text"; its fields are body');
    await refused(write("x.jsonl", '{"text":3}'), 'line 1: field "text": expected a string, got a number');
    await refused(write("x.jsonl", '{"text":"a"}'), 'no field "toString"', { field: "toString" });
  });
  test("options out of range", async () => {
    const path = write("x.txt", "a");
    await refused(path, "split: expected", { split: "paragraphs" as "file" });
    await refused(path, "split: expected", { split: { separator: "" } });
    await refused(path, "split: expected", {
      split: { separator: "a", regex: true } as { separator: string },
    });
    await refused(path, 'unknown option "fields"', { fields: "text" } as CorpusOptions);
  });
  test("a file that changes after it was opened, and to go on after an abort", async () => {
    const path = write("x.txt", "before");
    const corpus = await Corpus.open(path);
    await expect(corpus.hash(AbortSignal.abort())).rejects.toThrow(AbortError);
    writeFileSync(path, "after, longer");
    await expect(corpus.hash()).rejects.toThrow("has changed since the corpus was opened");
  });
});
