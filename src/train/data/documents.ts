import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { checkFields, InputError, throwIfAborted } from "../../errors.js";
import { isObject, kindOf } from "../../model/formats/files.js";
import { filesUnder } from "../../model/formats/node-files.js";
import {
  checkSplit,
  type DocumentPart,
  type DocumentSplit,
  DocumentSplitter,
  PartCutter,
} from "./document-splitter.js";
import { Utf8Decoder } from "./utf8.js";

/** Corpora on disk: .txt and .jsonl files, and folders of them. For Node. */

export interface CorpusOptions {
  /** Where the documents of .txt files end. Default "file". */
  readonly split?: DocumentSplit;
  /** The field of each line of a .jsonl file that holds the text. Default "text". */
  readonly field?: string;
}

export interface CorpusFile {
  readonly path: string;
  readonly kind: "txt" | "jsonl";
  /** Bytes. */
  readonly size: number;
  readonly modifiedMs: number;
}

/** UTF-16 units of one line of a .jsonl file: a longer one is a file of another kind. */
const LONGEST_LINE = 2 ** 27;

/** Text files as one row of documents, read anew each time it is asked for, a piece at a time. */
export class Corpus {
  /** The path that was opened. */
  readonly name: string;
  /** Sorted by their paths within the folder. */
  readonly files: readonly CorpusFile[];
  readonly options: Required<CorpusOptions>;

  private constructor(name: string, files: readonly CorpusFile[], options: Required<CorpusOptions>) {
    this.name = name;
    this.files = files;
    this.options = options;
  }

  /**
   * Opens a .txt file (UTF-8; documents by `split`), a .jsonl file (a document a line), or a folder with any number of
   * them at any depth; other files in a folder are left alone.
   * @throws InputError when there is nothing to read, or for options out of range
   */
  static async open(path: string, options: CorpusOptions = {}): Promise<Corpus> {
    checkFields("Corpus", options, ["split", "field"]);
    const { split = "file", field = "text" } = options;
    checkSplit(split);
    if (typeof field !== "string") throw new InputError(`field: expected a name, got ${kindOf(field)}`);
    return new Corpus(path, await filesOf(path), { split, field });
  }

  /**
   * The documents in order, long ones in parts.
   * @throws InputError for bytes that are not UTF-8, a line that is not as it should be, or when there is no document;
   *   AbortError
   */
  async *documents(signal?: AbortSignal): AsyncGenerator<DocumentPart> {
    let any = false;
    for (const file of this.files)
      for await (const part of file.kind === "txt" ? this.text(file, signal) : this.lines(file, signal)) {
        any = true;
        yield part;
      }
    if (!any)
      throw new InputError(`${this.name}: the corpus is empty: expected text in at least one document`);
  }

  /** The text of the documents' parts, as `trainBpe` reads it: cut where words are, so that its counts stay the same. */
  async *texts(signal?: AbortSignal): AsyncGenerator<string> {
    for await (const { text } of this.documents(signal)) yield text;
  }

  /**
   * SHA-256, in hex, of what the files hold and how they are read, but not of their names.
   * @param each called with each file's own, of its bytes alone
   * @throws InputError when a file can't be read, AbortError
   */
  async hash(signal?: AbortSignal, each?: (file: CorpusFile, hash: string) => void): Promise<string> {
    const hash = createHash("sha256").update(JSON.stringify(this.options));
    for (const file of this.files) {
      const one = createHash("sha256");
      for await (const bytes of bytesOf(file, signal)) one.update(bytes);
      const digest = one.digest("hex");
      each?.(file, digest);
      hash.update(`\n${file.kind} ${file.size} ${digest}`);
    }
    return hash.digest("hex");
  }

  /**
   * A number for each document by its text alone (53 bits of its SHA-256), for `splitIds`.
   * @throws as `documents`
   */
  async keys(signal?: AbortSignal): Promise<Float64Array> {
    const keys: number[] = [];
    let hash = createHash("sha256");
    for await (const { text, last } of this.documents(signal)) {
      hash.update(text);
      if (!last) continue;
      const high = hash.digest().readBigUInt64BE();
      keys.push(Number(high >> 11n));
      hash = createHash("sha256");
    }
    return Float64Array.from(keys);
  }

  private async *text(file: CorpusFile, signal: AbortSignal | undefined): AsyncGenerator<DocumentPart> {
    const splitter = new DocumentSplitter(this.options.split);
    for await (const text of textOf(file, signal)) yield* splitter.push(text);
    yield* splitter.end();
  }

  private async *lines(file: CorpusFile, signal: AbortSignal | undefined): AsyncGenerator<DocumentPart> {
    const cutter = new PartCutter();
    let number = 0;
    for await (const line of linesOf(file, signal)) {
      number++;
      if (line.trim() === "") continue;
      yield* cutter.text(fieldOf(`${file.path}, line ${number}`, line, this.options.field));
      yield* cutter.end();
    }
  }
}

async function filesOf(path: string): Promise<CorpusFile[]> {
  const found = await look(path);
  if (!found.isDirectory()) return [await corpusFile(path)];
  const all = await filesUnder(path).catch((error: unknown) => unreadable(path, error));
  const names = all.filter((name) => kindFrom(name)).sort();
  if (names.length === 0)
    throw new InputError(`${path}: the folder has no .txt and no .jsonl file (of ${all.length} files)`);
  const files: CorpusFile[] = [];
  for (const name of names) files.push(await corpusFile(join(path, ...name.split("/"))));
  return files;
}

async function corpusFile(path: string): Promise<CorpusFile> {
  const kind = kindFrom(path);
  if (!kind) throw new InputError(`${path}: expected a file whose name ends in .txt or .jsonl, or a folder`);
  const found = await look(path);
  if (!found.isFile()) throw new InputError(`${path}: expected a file, got a folder, device or pipe`);
  return { path, kind, size: found.size, modifiedMs: found.mtimeMs };
}

function kindFrom(name: string): CorpusFile["kind"] | undefined {
  const lower = name.toLowerCase();
  return lower.endsWith(".txt") ? "txt" : lower.endsWith(".jsonl") ? "jsonl" : undefined;
}

async function look(path: string) {
  return stat(path).catch((error: unknown) => unreadable(path, error));
}

function unreadable(path: string, error: unknown): never {
  const { code = String(error) } = error as NodeJS.ErrnoException;
  const missing = code === "ENOENT" || code === "ENOTDIR";
  throw new InputError(missing ? `${path}: no such file or folder` : `${path}: can't be read (${code})`);
}

/** @throws InputError when the file is not as it was when the corpus was opened */
async function* bytesOf(file: CorpusFile, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  throwIfAborted(signal);
  const stream = createReadStream(file.path, { highWaterMark: 1 << 18 });
  let size = 0;
  try {
    for await (const bytes of stream) {
      throwIfAborted(signal);
      size += bytes.length;
      yield bytes;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall) unreadable(file.path, error);
    throw error;
  } finally {
    stream.destroy();
  }
  const now = await look(file.path);
  if (size !== file.size || now.mtimeMs !== file.modifiedMs)
    throw new InputError(`${file.path}: has changed since the corpus was opened; open it anew`);
}

async function* textOf(file: CorpusFile, signal: AbortSignal | undefined): AsyncGenerator<string> {
  const decoder = new Utf8Decoder(file.path);
  for await (const bytes of bytesOf(file, signal)) yield decoder.push(bytes);
  decoder.end();
}

async function* linesOf(file: CorpusFile, signal: AbortSignal | undefined): AsyncGenerator<string> {
  let line = "";
  let number = 1;
  for await (const text of textOf(file, signal)) {
    const [rest, ...more] = text.split("\n");
    line += rest;
    for (const next of more) {
      yield line;
      line = next;
      number++;
    }
    if (line.length > LONGEST_LINE)
      throw new InputError(
        `${file.path}, line ${number}: is longer than ${LONGEST_LINE} characters; expected a JSON object on each line`,
      );
  }
  yield line;
}

function fieldOf(what: string, line: string, field: string): string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new InputError(
      `${what}: is not valid JSON (${(error as Error).message}); expected an object a line`,
    );
  }
  if (!isObject(value)) throw new InputError(`${what}: expected a JSON object, got ${kindOf(value)}`);
  const text = Object.hasOwn(value, field) ? value[field] : undefined;
  if (typeof text === "string") return text;
  const fields = Object.keys(value).slice(0, 10).join(", ");
  throw new InputError(
    text === undefined
      ? `${what}: has no field "${field}"; its fields are ${fields || "none"}`
      : `${what}: field "${field}": expected a string, got ${kindOf(text)}`,
  );
}
