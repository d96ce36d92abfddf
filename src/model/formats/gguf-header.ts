import { InputError } from "../../errors.js";
import type { ByteSource } from "./checkpoint.js";

/** A value of a GGUF file's metadata; 64-bit integers as numbers (beyond 2^53 they are refused). */
export type GgufValue = number | boolean | string | GgufArray;
/** Arrays of numbers are typed; nested ones and those of strings and booleans are plain. */
export type GgufArray = readonly GgufValue[] | GgufNumbers;
export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;

/** A tensor as the file describes it. */
export interface GgufTensorInfo {
  readonly name: string;
  /** Row-major: the file's fastest-first dimensions, turned round. */
  readonly shape: readonly number[];
  /** ggml's number of the stored type. */
  readonly ggmlType: number;
  /** From the start of the data. */
  readonly offset: number;
}

/** What stands before a GGUF file's data. */
export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensorInfo[];
  /** First byte of the data. */
  readonly dataStart: number;
}

/** First window that is read, and the largest: real headers are a few MB of vocabulary. */
const WINDOW = 2 ** 20;
const LARGEST = 2 ** 28;
/** Longest believed string: a whole tokenizer.json may stand in one. */
const LONGEST = 2 ** 26;
const DEEPEST = 4;

/** Thrown by the parser when the window ends before the header does; never leaves this file. */
class NeedMore extends Error {}

/**
 * Reads the header of a GGUF file (versions 2 and 3, little-endian) in windows that double until it fits.
 * No length in the file is believed before it is compared with the file's size.
 * @throws InputError
 */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  for (let window = WINDOW; ; window *= 2) {
    const end = Math.min(window, source.size);
    const bytes = await source.read(0, end);
    try {
      return new HeaderParser(source.name, bytes, source.size).parse();
    } catch (error) {
      if (!(error instanceof NeedMore)) throw error;
      if (end === source.size)
        throw new InputError(`${source.name}: ends inside its header, after ${end} bytes; is it cut short?`);
      if (window >= LARGEST)
        throw new InputError(`${source.name}: the header is larger than ${LARGEST} bytes; is it damaged?`);
    }
  }
}

/** Least bytes of a value of each type (strings: their length; arrays: type and length). */
const LEAST = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];
const STRING = 8;
const ARRAY = 9;

class HeaderParser {
  private at = 0;
  private readonly view: DataView;
  private readonly decoder = new TextDecoder();

  constructor(
    private readonly file: string,
    private readonly bytes: Uint8Array,
    private readonly fileSize: number,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  parse(): GgufHeader {
    this.need(8);
    if (String.fromCharCode(...this.bytes.subarray(0, 4)) !== "GGUF")
      this.fail('does not begin with "GGUF": it is no GGUF file');
    this.at = 4;
    const version = this.u32();
    if ((version & 0xffff) === 0)
      this.fail(
        "is a big-endian GGUF file; expected little-endian: convert it with gguf-py's gguf_convert_endian",
      );
    if (version !== 2 && version !== 3)
      this.fail(
        `is GGUF version ${version}; supported are 2 and 3: make the file anew with llama.cpp's converter`,
      );
    // The least that a tensor's description and a key with its value take.
    const tensorCount = this.counted("tensors", 24);
    const keyCount = this.counted("metadata keys", 13);
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < keyCount; i++) {
      const key = this.string("a key");
      if (metadata.has(key)) this.fail(`metadata key ${key} stands twice`);
      metadata.set(key, this.value(key, this.type(key), 0));
    }
    const tensors: GgufTensorInfo[] = [];
    const names = new Set<string>();
    for (let i = 0; i < tensorCount; i++) {
      const tensor = this.tensor();
      if (names.has(tensor.name)) this.fail(`tensor ${tensor.name} stands twice`);
      names.add(tensor.name);
      tensors.push(tensor);
    }
    const alignment = metadata.get("general.alignment") ?? 32;
    if (typeof alignment !== "number" || alignment < 1 || !Number.isInteger(Math.log2(alignment)))
      this.fail(`general.alignment is ${String(alignment)}; expected a power of two`);
    for (const { name, offset } of tensors)
      if (offset % alignment !== 0)
        this.fail(`tensor ${name} begins at ${offset}, which is no multiple of the alignment ${alignment}`);
    const dataStart = Math.ceil(this.at / alignment) * alignment;
    return { version, metadata, tensors, dataStart };
  }

  private tensor(): GgufTensorInfo {
    const name = this.string("a tensor's name");
    const dims = this.u32();
    if (dims > 4) this.fail(`tensor ${name} has ${dims} dimensions; expected at most 4`);
    const shape: number[] = [];
    for (let d = 0; d < dims; d++) shape.unshift(this.u64(`a dimension of ${name}`));
    return { name, shape, ggmlType: this.u32(), offset: this.u64(`the offset of ${name}`) };
  }

  private type(key: string): number {
    const type = this.u32();
    if (type >= LEAST.length) this.fail(`metadata key ${key} has the unknown type ${type}`);
    return type;
  }

  private value(key: string, type: number, depth: number): GgufValue {
    if (type === STRING) return this.string(key);
    if (type === ARRAY) return this.array(key, depth);
    if (type === 10) return this.u64(key);
    const at = this.at;
    this.need(LEAST[type]);
    this.at += LEAST[type];
    const view = this.view;
    switch (type) {
      case 0:
        return view.getUint8(at);
      case 1:
        return view.getInt8(at);
      case 2:
        return view.getUint16(at, true);
      case 3:
        return view.getInt16(at, true);
      case 4:
        return view.getUint32(at, true);
      case 5:
        return view.getInt32(at, true);
      case 6:
        return view.getFloat32(at, true);
      case 7:
        return view.getUint8(at) !== 0;
      case 11:
        return this.whole(key, view.getBigInt64(at, true));
      default:
        return view.getFloat64(at, true);
    }
  }

  private array(key: string, depth: number): GgufArray {
    if (depth >= DEEPEST) this.fail(`metadata key ${key} nests arrays deeper than ${DEEPEST}`);
    const type = this.type(key);
    const count = this.counted(`items of ${key}`, LEAST[type]);
    const Typed = typedArray(type);
    if (Typed) {
      const bytes = count * Typed.BYTES_PER_ELEMENT;
      this.need(bytes);
      // A copy: the file's bytes are not aligned, and the window is dropped.
      // Not `slice`: of a Node Buffer that is a view, and `buffer` then the whole file.
      const copy = new Uint8Array(this.bytes.subarray(this.at, this.at + bytes));
      this.at += bytes;
      return new Typed(copy.buffer, 0, count);
    }
    // The window must hold at least this much before memory for `count` items is taken.
    this.need(count * LEAST[type]);
    const items: GgufValue[] = [];
    for (let i = 0; i < count; i++) items.push(this.value(key, type, depth + 1));
    return items;
  }

  /** A count of things of at least `least` bytes each, compared with what is left of the file. */
  private counted(what: string, least: number): number {
    const count = this.u64(`the number of ${what}`);
    const left = this.fileSize - this.at;
    if (count * least > left)
      this.fail(`claims ${count} ${what}, but only ${left} bytes follow; is it cut short?`);
    return count;
  }

  private string(what: string): string {
    const length = this.u64(`the length of ${what}`);
    const left = this.fileSize - this.at;
    if (length > left || length > LONGEST)
      this.fail(`claims ${length} bytes of text for ${what}, but only ${Math.min(left, LONGEST)} can follow`);
    this.need(length);
    const from = this.at;
    this.at += length;
    // Most strings are a few bytes of ASCII, which is told sooner than a decoder is called.
    if (length <= 24) {
      let text = "";
      let i = from;
      for (; i < this.at && this.bytes[i] < 128; i++) text += String.fromCharCode(this.bytes[i]);
      if (i === this.at) return text;
    }
    return this.decoder.decode(this.bytes.subarray(from, this.at));
  }

  private u32(): number {
    this.need(4);
    this.at += 4;
    return this.view.getUint32(this.at - 4, true);
  }

  private u64(what: string): number {
    this.need(8);
    this.at += 8;
    const low = this.view.getUint32(this.at - 8, true);
    const high = this.view.getUint32(this.at - 4, true);
    if (high >= 2 ** 21) this.fail(`${what} is ${BigInt(high) * 2n ** 32n + BigInt(low)}, beyond 2^53`);
    return high * 2 ** 32 + low;
  }

  private whole(what: string, wide: bigint): number {
    const value = Number(wide);
    if (!Number.isSafeInteger(value)) this.fail(`${what} is ${wide}, beyond 2^53`);
    return value;
  }

  private need(bytes: number): void {
    if (this.at + bytes > this.bytes.byteLength) throw new NeedMore();
  }

  private fail(why: string): never {
    throw new InputError(`${this.file}: ${why}`);
  }
}

/** The array class of GGUF's number types that JavaScript has one for. */
function typedArray(type: number) {
  switch (type) {
    case 0:
      return Uint8Array<ArrayBuffer>;
    case 1:
      return Int8Array<ArrayBuffer>;
    case 2:
      return Uint16Array<ArrayBuffer>;
    case 3:
      return Int16Array<ArrayBuffer>;
    case 4:
      return Uint32Array<ArrayBuffer>;
    case 5:
      return Int32Array<ArrayBuffer>;
    case 6:
      return Float32Array<ArrayBuffer>;
    case 12:
      return Float64Array<ArrayBuffer>;
    default:
      return undefined;
  }
}
