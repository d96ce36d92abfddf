import { InputError } from "../../errors.js";

const NOTHING = new Uint8Array(0);

/**
 * Bytes that come in pieces to text, strictly: what is not UTF-8 is an error that says where. A byte order mark at the
 * very start is left out.
 */
export class Utf8Decoder {
  private readonly decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  /** The first bytes of a character whose rest has not come yet. */
  private open: Uint8Array = NOTHING;
  /** Bytes before `open`. */
  private offset = 0;
  private readonly name: string;

  /** @param name the file, for messages */
  constructor(name: string) {
    this.name = name;
  }

  /**
   * The text that more bytes complete.
   * @throws InputError naming the file and the byte at which the first ill-formed sequence begins
   */
  push(bytes: Uint8Array): string {
    let all = bytes;
    if (this.open.length > 0) {
      all = new Uint8Array(this.open.length + bytes.length);
      all.set(this.open);
      all.set(bytes, this.open.length);
    }
    const end = all.length - openBytes(all);
    const text = this.decode(all.subarray(0, end));
    const first = this.offset === 0 && end > 0;
    this.offset += end;
    this.open = all.slice(end);
    return first && text.startsWith("\uFEFF") ? text.slice(1) : text;
  }

  /** Says that no more bytes come. @throws InputError when a character is cut short */
  end(): void {
    if (this.open.length > 0) this.fail(this.offset, "cuts a character short");
  }

  private decode(bytes: Uint8Array): string {
    try {
      return this.decoder.decode(bytes);
    } catch {
      return this.fail(this.offset + firstBad(bytes), "is not UTF-8");
    }
  }

  private fail(offset: number, what: string): never {
    throw new InputError(
      `${this.name}: byte ${offset} ${what}; expected UTF-8 text: convert the file, or leave it out`,
    );
  }
}

/** Bytes at the end that may begin a longer character: 0 to 3. */
function openBytes(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const at = bytes.length - back;
    if (sequenceLength(bytes[at]) > back && goesOn(bytes, at) === back) return back;
    if (bytes[at] < 0x80 || bytes[at] > 0xbf) return 0;
  }
  return 0;
}

/** Where the first ill-formed sequence begins. */
function firstBad(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length) {
    const length = sequenceLength(bytes[at]);
    if (length === 0 || goesOn(bytes, at) < length) return at;
    at += length;
  }
  return at;
}

/** Bytes of the character that this byte begins; 0 for one that begins none. */
function sequenceLength(byte: number): number {
  if (byte < 0x80) return 1;
  if (byte < 0xc2 || byte > 0xf4) return 0;
  return byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/** Bytes from `at` on that are a character, or its beginning (Unicode 16, table 3-7). */
function goesOn(bytes: Uint8Array, at: number): number {
  const first = bytes[at];
  const length = sequenceLength(first);
  let count = 1;
  for (; count < length && at + count < bytes.length; count++) {
    const byte = bytes[at + count];
    let [low, high] = [0x80, 0xbf];
    if (count === 1) {
      if (first === 0xe0) low = 0xa0;
      if (first === 0xed) high = 0x9f;
      if (first === 0xf0) low = 0x90;
      if (first === 0xf4) high = 0x8f;
    }
    if (byte < low || byte > high) break;
  }
  return count;
}
