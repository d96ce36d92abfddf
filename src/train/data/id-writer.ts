import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { checkEndianness, HASH_AT, HEADER, tableAt, writeHeader } from "./id-format.js";

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
