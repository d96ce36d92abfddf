import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { InputError } from "../../errors.js";
import { checkEndianness, HASH, HASH_AT, HEADER, type Header, readHeader, tableAt } from "./id-format.js";
import { checkPositions, type IdSource } from "./ids.js";

/** Ids in a file, read by position; only the documents' table is held in memory. `close` gives the file back. */
export class FileIds implements IdSource {
  readonly name: string;
  readonly length: number;
  readonly documents: Float64Array;
  readonly endOfText: number | undefined;
  // Not a `private` field: its type, which is Node's, would stand in the declarations that people compile with.
  readonly #file: FileHandle;
  private readonly width: 2 | 4;
  private closed = false;

  private constructor(name: string, file: FileHandle, header: Header, documents: Float64Array) {
    this.name = name;
    this.#file = file;
    this.length = header.ids;
    this.width = header.width;
    this.endOfText = header.endOfText;
    this.documents = documents;
  }

  /** Opens a file of ids. Undefined when there is none, or it is not, in every byte, what was written for this key. */
  static async open(path: string, name: string, key: string): Promise<FileIds | undefined> {
    checkEndianness();
    const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw new InputError(`${path}: can't be opened (${error.code}); choose another folder for caches`);
    });
    if (!file) return undefined;
    const ids = await FileIds.checked(file, name, key).catch(async (error: unknown) => {
      await file.close();
      throw error;
    });
    if (!ids) await file.close();
    return ids;
  }

  private static async checked(file: FileHandle, name: string, key: string): Promise<FileIds | undefined> {
    const bytes = await readAll(file, 0, HEADER);
    const header = bytes && readHeader(bytes);
    if (!header || header.key !== key) return undefined;
    const table = tableAt(header);
    const size = table + 8 * (header.documents + 1);
    if ((await file.stat()).size !== size) return undefined;
    const body = createHash("sha256");
    for (let at = HEADER; at < size; at += 2 ** 20) {
      const piece = await readAll(file, at, Math.min(size, at + 2 ** 20));
      if (!piece) return undefined;
      body.update(piece);
    }
    const sum = Buffer.from(bytes.subarray(HASH_AT, HASH_AT + HASH));
    bytes.fill(0, HASH_AT, HASH_AT + HASH);
    if (!createHash("sha256").update(bytes).update(body.digest()).digest().equals(sum)) return undefined;
    const starts = await readAll(file, table, size);
    return starts && new FileIds(name, file, header, new Float64Array(starts.buffer));
  }

  /** @throws InputError for positions outside the file, after `close`, or when the file was cut since it was opened */
  async read(start: number, end: number): Promise<Int32Array> {
    checkPositions(this.name, this.length, start, end);
    if (this.closed) throw new InputError(`${this.name}: read after it was closed`);
    const { width } = this;
    const bytes = await readAll(this.#file, HEADER + start * width, HEADER + end * width);
    if (!bytes) throw new InputError(`${this.name}: was cut short while it was open; open the corpus anew`);
    return Int32Array.from(width === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer));
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.#file.close();
  }
}

/** The bytes [start, end), in a buffer of their own. Undefined when the file ends before. */
async function readAll(
  file: FileHandle,
  start: number,
  end: number,
): Promise<Buffer<ArrayBuffer> | undefined> {
  const bytes = Buffer.from(new ArrayBuffer(end - start));
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, start + done);
    if (bytesRead === 0) return undefined;
    done += bytesRead;
  }
  return bytes;
}
