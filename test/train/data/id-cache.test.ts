import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { AbortError } from "../../../src/errors.js";
import { tokenizerFromJson } from "../../../src/model/tokenizer/from-files.js";
import { Batches, IGNORE } from "../../../src/train/data/batches.js";
import { PART } from "../../../src/train/data/document-splitter.js";
import { Corpus } from "../../../src/train/data/documents.js";
import { type CachedIdsOptions, cachedIds, tokenizerHash } from "../../../src/train/data/id-cache.js";
import type { FileIds } from "../../../src/train/data/id-file.js";
import { memoryIds } from "../../../src/train/data/ids.js";
import { trainBpe } from "../../../src/train/tokenizer/train-bpe.js";

const folder = mkdtempSync(join(tmpdir(), "lmhead-ids-"));
const opened: FileIds[] = [];
afterAll(async () => {
  for (const ids of opened) await ids.close();
  rmSync(folder, { recursive: true });
});

const texts = ["the cat sat on the mat", "the dog sat on the cat 🙂", "a dog"];
const { json } = await trainBpe(texts, { vocabSize: 270 });
const tokenizer = tokenizerFromJson("mine", json);

let made = 0;
function setUp(content: string, vocabulary = tokenizer) {
  const root = mkdtempSync(join(folder, `${made++}-`));
  const path = join(root, "corpus.txt");
  writeFileSync(path, content);
  let built = 0;
  const options = (more: Partial<CachedIdsOptions> = {}): CachedIdsOptions => ({
    tokenizer: vocabulary,
    tokenizerHash: tokenizerHash(json),
    endOfText: 0,
    folder: join(root, "caches"),
    onProgress: ({ ids }) => {
      built = ids;
    },
    ...more,
  });
  const openIds = async (more?: Partial<CachedIdsOptions>) => {
    built = 0;
    const ids = await cachedIds(await Corpus.open(path, { split: "lines" }), options(more));
    opened.push(ids);
    return { ids, built };
  };
  const files = () => readdirSync(join(root, "caches"));
  return { root, path, openIds, files, file: () => join(root, "caches", files()[0]) };
}

async function whole(source: { length: number; read(a: number, b: number): Promise<Int32Array> }) {
  return [...(await source.read(0, source.length))];
}

const bare = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });

test("holds what the tokenizer gives, and is found again", async () => {
  const { openIds, files } = setUp(texts.join("\n"));
  const first = await openIds();
  const expected = memoryIds("x", texts.map(bare), { endOfText: 0 });
  expect(await whole(first.ids)).toEqual(await whole(expected));
  expect(first.ids.documents).toEqual(expected.documents);
  expect([first.ids.endOfText, first.built]).toEqual([0, expected.length]);
  for (const [start, end] of [
    [3, 3],
    [1, 2],
    [5, expected.length],
  ])
    expect(await first.ids.read(start, end)).toEqual(await expected.read(start, end));
  const options = { length: 5, size: 2 };
  expect(await new Batches(first.ids, options).batch(3)).toEqual(
    await new Batches(expected, options).batch(3),
  );
  const again = await openIds();
  expect(again.built).toBe(0);
  expect(await whole(again.ids)).toEqual(await whole(first.ids));
  expect(files().length).toBe(1);
  await Promise.all([first.ids.close(), again.ids.close()]);
  await again.ids.close();
  await expect(again.ids.read(0, 1)).rejects.toThrow("after it was closed");
});

test("a document is read from a beginning of its own, which nothing predicts", async () => {
  const { openIds, files } = setUp("the cat\na dog");
  const { ids } = await openIds({ beginOfText: 7 });
  const [first, second] = [bare("the cat"), bare("a dog")];
  const rows = [7, ...first, 0, 7, ...second, 0];
  expect(await whole(ids)).toEqual(rows);
  const batches = new Batches(ids, { length: rows.length - 1, size: 1 });
  const { targets, segments, predicted } = await batches.batch(0);
  expect([...targets]).toEqual([...first, 0, IGNORE, ...second, 0]);
  expect([...segments]).toEqual([first.length + 2, second.length + 1]);
  expect(predicted).toBe(rows.length - 2);
  await openIds();
  expect(files().length).toBe(2);
  await expect(openIds({ beginOfText: 0 })).rejects.toThrow("beginOfText: is the end of text");
  await expect(openIds({ beginOfText: 270 })).rejects.toThrow("beginOfText: expected an id in [0, 270)");
});

test("another tokenizer, end of text, content or option is another cache; another name or time is not", async () => {
  const { path, openIds, files } = setUp("the cat\nthe dog\n");
  await (await openIds()).ids.close();
  utimesSync(path, 1, 1);
  expect((await openIds()).built).toBe(0);
  const none = await openIds({ endOfText: null });
  expect([none.ids.endOfText, none.built]).toEqual([
    undefined,
    bare("the cat").length + bare("the dog").length,
  ]);
  expect((await openIds({ tokenizerHash: tokenizerHash({ ...json, other: 1 }) })).built).toBeGreaterThan(0);
  writeFileSync(path, "the cat\nthe dag\n");
  expect((await openIds()).built).toBeGreaterThan(0);
  expect(files().length).toBe(4);
});

test("a cache cut by any byte, longer, or changed in any byte is made anew", async () => {
  const { openIds, file } = setUp("the cat\na dog");
  const right = await whole((await openIds()).ids);
  const bytes = readFileSync(file());
  const damaged: Buffer[] = [Buffer.concat([bytes, Buffer.of(0)])];
  for (let at = 0; at < bytes.length; at++) {
    damaged.push(bytes.subarray(0, at));
    const changed = Buffer.from(bytes);
    changed[at] ^= 1 << (at % 8);
    damaged.push(changed);
  }
  expect(damaged.length).toBeGreaterThan(300);
  for (const one of damaged) {
    writeFileSync(file(), one);
    const { ids, built } = await openIds();
    expect(built).toBe(right.length);
    expect(await whole(ids)).toEqual(right);
    await ids.close();
  }
  expect(readFileSync(file())).toEqual(bytes);
});

test("long documents give the ids of the whole; larger vocabularies take 32 bits", async () => {
  let text = "";
  for (let i = 0; text.length < 3 * PART; i++) text += `the cat ${i * 7919} sat,  on the dog. `;
  const { openIds } = setUp(text);
  const expected = [...bare(text), 0];
  const { ids } = await openIds();
  expect(await whole(ids)).toEqual(expected);
  expect([...ids.documents]).toEqual([0, expected.length]);

  const wide = tokenizerFromJson("wide", {
    ...json,
    added_tokens: [
      ...(json.added_tokens as object[]),
      { id: 70_000, content: "<far>", special: true, normalized: false },
    ],
  });
  const far = setUp("the <far>cat", wide);
  expect(await whole((await far.openIds()).ids)).toEqual([...bare("the "), 70_000, ...bare("cat"), 0]);
});

describe("leaves nothing behind", () => {
  test("when the text is bad, the work is aborted, or the folder can't be", async () => {
    const { root, path, openIds, files } = setUp("the cat\n".repeat(50));
    const controller = new AbortController();
    await expect(
      openIds({ signal: controller.signal, onProgress: () => controller.abort() }),
    ).rejects.toThrow(AbortError);
    expect(files()).toEqual([]);
    await expect(openIds({ folder: join(path, "in a file") })).rejects.toThrow(/can't be (opened|written)/);
    writeFileSync(path, Uint8Array.of(0x61, 0x0a, 0xff));
    await expect(openIds()).rejects.toThrow("byte 2 is not UTF-8");
    expect(files()).toEqual([]);
    expect(readdirSync(root).sort()).toEqual(["caches", "corpus.txt"]);
  });
});

test("refuses options out of range", async () => {
  const { openIds } = setUp("the cat");
  await expect(openIds({ endOfText: 270 })).rejects.toThrow(
    "endOfText: expected an id in [0, 270) or null, got 270",
  );
  await expect(openIds({ endOfText: undefined })).rejects.toThrow("got undefined");
  await expect(openIds({ tokenizerHash: "abc" })).rejects.toThrow("64 hexadecimal digits");
  await expect(openIds({ cache: "x" } as object)).rejects.toThrow('unknown option "cache"');
});
