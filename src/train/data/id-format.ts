import { endianness } from "node:os";
import { InputError } from "../../errors.js";

/**
 * A file of ids: a header, the ids as u16 or u32, zeros up to a multiple of 8 bytes, and as f64 where each document
 * begins, with the end as the last. The header holds the key of what was tokenised and a SHA-256 of the whole file
 * but for that hash itself.
 */
const MAGIC = "LMHIDS01";
export const HEADER = 128;
export const HASH_AT = 80;
export const HASH = 32;
const NO_END = 2 ** 32 - 1;

/** What a header says, in fixed places: magic 0, width 8, end of text 12, ids 16, documents 24, key 32, hash 80. */
export interface Header {
  readonly key: string;
  /** Bytes of an id: 2 or 4. */
  readonly width: 2 | 4;
  readonly endOfText: number | undefined;
  readonly ids: number;
  readonly documents: number;
}

export function writeHeader({ key, width, endOfText, ids, documents }: Header): Buffer {
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
export function readHeader(bytes: Buffer): Header | undefined {
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
export function tableAt({ ids, width }: Header): number {
  return HEADER + Math.ceil((ids * width) / 8) * 8;
}

/** @throws InputError on a machine whose numbers are not little-endian, as the file's are */
export function checkEndianness(): void {
  if (endianness() !== "LE") throw new InputError("id caches need a little-endian machine");
}
