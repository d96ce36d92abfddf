import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { checkFields, InputError } from "../../errors.js";
import { Breather } from "../../kernels/reference/breather.js";
import { continuationIds } from "../../model/continuation.js";
import type { Tokenizer } from "../../model/tokenizer/tokenizer.js";
import type { Corpus } from "./documents.js";
import { FileIds } from "./id-file.js";
import { IdWriter } from "./id-writer.js";

/** A corpus's ids on disk, made once and found again. For Node. */

/** How far a corpus is tokenised. */
export interface IdsProgress {
  readonly documents: number;
  readonly ids: number;
}

export interface CachedIdsOptions {
  readonly tokenizer: Tokenizer;
  /** What tells the tokenizer from others, as `tokenizerHash` gives it of its files. */
  readonly tokenizerHash: string;
  /** The id put after each document; null: none. */
  readonly endOfText: number | null;
  /**
   * The id put before each document, where that is another than `endOfText` (a Llama's `<s>`): a document is then read
   * from it, and it is never predicted. Default null: each is read from the end of the one before.
   */
  readonly beginOfText?: number | null;
  /** The folder of caches; made when it is not there. */
  readonly folder: string;
  /** Called after each document, of long ones after each 2¹⁶ characters or so, while a cache is made; never when one is found. */
  readonly onProgress?: (progress: IdsProgress) => void;
  readonly signal?: AbortSignal;
}

/** SHA-256, in hex, of the parsed `tokenizer.json` and, where there is one, `tokenizer_config.json`. */
export function tokenizerHash(json: object, config?: object): string {
  return createHash("sha256")
    .update(JSON.stringify([json, config ?? null]))
    .digest("hex");
}

/**
 * The ids of a corpus, from the cache in `folder` or, when there is none, tokenised into one. A cache belongs to the
 * files' contents (not their names), the options they are read with, the tokenizer and the ids put around texts; one that is
 * cut or damaged is made anew. It is written aside and renamed, so that what is there is whole. Memory holds eight
 * bytes a document, whatever the corpus's size. The text of a special token inside a document becomes that token.
 *
 * Each call reads the corpus's files and the cache once, to compare their hashes.
 *
 * @throws InputError for options out of range, files that are not as they should be, a folder that can't be written;
 *   AbortError
 */
export async function cachedIds(corpus: Corpus, options: CachedIdsOptions): Promise<FileIds> {
  checkFields("cachedIds", options, [
    "tokenizer",
    "tokenizerHash",
    "endOfText",
    "beginOfText",
    "folder",
    "onProgress",
    "signal",
  ]);
  const { tokenizer, tokenizerHash: hash, endOfText, beginOfText = null, folder, signal } = options;
  if (!/^[0-9a-f]{64}$/.test(hash))
    throw new InputError(
      `tokenizerHash: expected 64 hexadecimal digits, as tokenizerHash() gives, got ${hash}`,
    );
  const V = tokenizer.vocabSize;
  for (const [name, id] of Object.entries({ endOfText, beginOfText }))
    if (id !== null && !(Number.isInteger(id) && id >= 0 && id < V))
      throw new InputError(`${name}: expected an id in [0, ${V}) or null, got ${id}`);
  if (beginOfText !== null && beginOfText === endOfText)
    throw new InputError(
      `beginOfText: is the end of text, ${endOfText}, from which each document is read anyway; leave it out`,
    );
  const key = createHash("sha256")
    .update(
      JSON.stringify({
        version: 2,
        corpus: await corpus.hash(signal),
        tokenizer: hash,
        endOfText,
        beginOfText,
        V,
      }),
    )
    .digest("hex");
  const path = join(folder, `${key}.ids`);
  const found = await FileIds.open(path, corpus.name, key);
  if (found) return found;
  await build(corpus, options, path, key);
  const made = await FileIds.open(path, corpus.name, key);
  if (!made) throw new InputError(`${path}: is not as it was written; is the disk full or damaged?`);
  return made;
}

async function build(corpus: Corpus, options: CachedIdsOptions, path: string, key: string): Promise<void> {
  const aside = `${path}.${randomUUID()}.tmp`;
  try {
    await mkdir(options.folder, { recursive: true });
    const file = await open(aside, "wx");
    try {
      const writer = new IdWriter(file, options.tokenizer.vocabSize);
      await tokenise(corpus, options, writer);
      // What ends a document is what the next is read from, unless that has a beginning of its own.
      const { endOfText, beginOfText = null } = options;
      await writer.finish(key, beginOfText === null ? (endOfText ?? undefined) : undefined);
    } finally {
      await file.close();
    }
    await rename(aside, path);
  } catch (error) {
    await rm(aside, { force: true });
    const { syscall, code } = error as NodeJS.ErrnoException;
    if (syscall)
      throw new InputError(`${path}: can't be written (${code}); choose another folder for caches`);
    throw error;
  }
}

async function tokenise(corpus: Corpus, options: CachedIdsOptions, writer: IdWriter): Promise<void> {
  const { tokenizer, endOfText, beginOfText = null, onProgress, signal } = options;
  const breather = new Breather(signal);
  /** The end of what the document has so far. */
  let before: readonly number[] = [];
  let begins = true;
  for await (const { text, last } of corpus.documents(signal)) {
    const ids =
      before.length > 0
        ? continuationIds(tokenizer, text, before)
        : tokenizer.encode(text, { addSpecialTokens: false });
    if (beginOfText !== null && begins) await writer.add([beginOfText]);
    begins = last;
    await writer.add(ids);
    before = last ? [] : ids.slice(-16);
    if (last && endOfText !== null) await writer.add([endOfText]);
    if (last) writer.endDocument();
    onProgress?.({ documents: writer.documents, ids: writer.ids });
    breather.stopIfPointless();
    await breather.pause();
  }
  if (writer.ids === 0) throw new InputError(`${corpus.name}: the corpus has no tokens`);
}
