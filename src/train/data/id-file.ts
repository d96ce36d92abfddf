import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { endianness } from "node:os";
import { InputError } from "../../errors.js";
import { checkPositions, type IdSource } from "./ids.js";

/**
 * A file of ids: a header, the ids as u16 or u32, zeros up to a multiple of 8 bytes, and as f64 where each document
 * begins, with the end as the last. The header holds the key of what was tokenised and a SHA-256 of the whole file
 * but for that hash itself.
 */
const MAGIC = "LMHIDS01";
const HEADER = 128;
const HASH_AT = 80;
const HASH = 32;
const NO_END = 2 ** 32 - 1;

/** What a header says, in fixed places: magic 0, width 8, end of text 12, ids 16, documents 24, key 32, hash 80. */
interface Header {
  readonly key: string;
  /** Bytes of an id: 2 or 4. */
  readonly width: 2 | 4;
  readonly endOfText: number | undefined;
  readonly ids: number;
  readonly documents: number;
}

function writeHeader({ key, width, endOfText, ids, documents }: Header): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.write(MAGIC, 0, "latin1");
  bytes.writeUInt32LE(width, 8);
  bytes.writeUInt32LE(endOfText ?? NO_END, 12);
  bytes.writeDoubleLE(ids, 16);
  bytes.writeDoubleLE(documents, 24);
  bytes.write(key, 32, "hex");
  return bytes;
}

/** Undefined when it is no header. */
function readHeader(bytes: Buffer): Header | undefined {
  const width = bytes.readUInt32LE(8);
  if (bytes.toString("latin1", 0, 8) !== MAGIC || (width !== 2 && width !== 4)) return undefined;
  const end = bytes.readUInt32LE(12);
  return {
    key: bytes.toString("hex", 32, 64),
    width,
    endOfText: end === NO_END ? undefined : end,
    ids: bytes.readDoubleLE(16),
    documents: bytes.readDoubleLE(24),
  };
}

/** Where the documents' table begins. */
function tableAt({ ids, width }: Header): number {
  return HEADER + Math.ceil((ids * width) / 8) * 8;
}

/** @throws InputError on a machine whose numbers are not little-endian, as the file's are */
function checkEndianness(): void {
  if (endianness() !== "LE") throw new InputError("id caches need a little-endian machine");
}

/** Ids that are written at a time. */
const CHUNK = 1 << 16;

/** Writes a file of ids to an open, empty file. */
export class IdWriter {
  /** Ids so far. */
  ids = 0;
  private readonly chunk: Uint16Array | Uint32Array;
  private readonly file: FileHandle;
  private readonly width: 2 | 4;
  private readonly hash = createHash("sha256");
  private readonly starts: number[] = [0];

  /** @param vocabSize ids are below it */
  constructor(file: FileHandle, vocabSize: number) {
    checkEndianness();
    this.file = file;
    this.chunk = vocabSize <= 2 ** 16 ? new Uint16Array(CHUNK) : new Uint32Array(CHUNK);
    this.width = vocabSize <= 2 ** 16 ? 2 : 4;
  }

  get documents(): number {
    return this.starts.length - 1;
  }

  /** More ids of the document. */
  async add(ids: readonly number[]): Promise<void> {
    for (const id of ids) {
      this.chunk[this.ids++ % CHUNK] = id;
      if (this.ids % CHUNK === 0) await this.flush(CHUNK);
    }
  }

  /** Writes the chunk's first ids, the last that came. */
  private async flush(count: number): Promise<void> {
    await this.write(asBytes(this.chunk.subarray(0, count)), HEADER + (this.ids - count) * this.width);
  }

  /** The document ends here; one without ids is none. */
  endDocument(): void {
    if (this.starts[this.starts.length - 1] < this.ids) this.starts.push(this.ids);
  }

  /** Writes table and header; the file is then complete. */
  async finish(key: string, endOfText: number | undefined): Promise<void> {
    await this.flush(this.ids % CHUNK);
    const { width, ids, documents } = this;
    const header = { key, width, endOfText, ids, documents };
    const padding = tableAt(header) - HEADER - ids * width;
    await this.write(new Uint8Array(padding), HEADER + ids * width);
    await this.write(asBytes(Float64Array.from(this.starts)), tableAt(header));
    const bytes = writeHeader(header);
    const sum = createHash("sha256").update(bytes).update(this.hash.digest()).digest();
    sum.copy(bytes, HASH_AT);
    await writeAll(this.file, bytes, 0);
    await this.file.sync();
  }

  private async write(bytes: Uint8Array, at: number): Promise<void> {
    this.hash.update(bytes);
    await writeAll(this.file, bytes, at);
  }
}

function asBytes(array: Uint16Array | Uint32Array | Float64Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

async function writeAll(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
}

/** Ids in a file, read by position; only the documents' table is held in memory. `close` gives the file back. */
export class FileIds implements IdSource {
  readonly name: string;
  readonly length: number;
  readonly documents: Float64Array;
  readonly endOfText: number | undefined;
  private readonly file: FileHandle;
  private readonly width: 2 | 4;
  private closed = false;

  private constructor(name: string, file: FileHandle, header: Header, documents: Float64Array) {
    this.name = name;
    this.file = file;
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
    const bytes = await readAll(this.file, HEADER + start * width, HEADER + end * width);
    if (!bytes) throw new InputError(`${this.name}: was cut short while it was open; open the corpus anew`);
    return Int32Array.from(width === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer));
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.file.close();
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
