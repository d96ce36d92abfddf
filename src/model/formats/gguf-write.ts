import { checkFields, InputError } from "../../errors.js";
import type { StoredType } from "../../kernels/format.js";
import { GGML_TYPES } from "./ggml-types.js";
import { tensorBytes } from "./tensors.js";

/** GGUF's number types. 64-bit integers are given as numbers: beyond 2^53 they are refused, as they are in reading. */
export type GgufNumberType = "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "u64" | "i64" | "f64";

/** The items of an array; an array of arrays says of each what it holds. */
export type GgufItems =
  | { readonly of: GgufNumberType; readonly value: ArrayLike<number> }
  | { readonly of: "bool"; readonly value: readonly boolean[] }
  | { readonly of: "string"; readonly value: readonly string[] }
  | { readonly of: "array"; readonly value: readonly GgufItems[] };

/** A value of the metadata with its type. */
export type GgufEntry =
  | { readonly type: GgufNumberType; readonly value: number }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | ({ readonly type: "array" } & GgufItems);

/** A tensor that is to be written: its bytes come later. */
export interface GgufTensor {
  /** At most 63 bytes of UTF-8, as ggml has room for. */
  readonly name: string;
  /** Row-major, at most four dimensions of 1 or more; rows in whole blocks. */
  readonly shape: readonly number[];
  readonly type: StoredType;
}

/** Where a tensor's bytes go in the file. */
export interface GgufPlace {
  readonly name: string;
  /** First byte in the file, a multiple of 32, and number of bytes. */
  readonly start: number;
  readonly bytes: number;
}

/** What a GGUF file begins with, and where everything else goes. */
export interface GgufLayout {
  /** Metadata and descriptions of the tensors, padded to a multiple of 32 bytes. */
  readonly header: Uint8Array;
  /** In the order given. Between a tensor's end and the next one's start, and after the last one, stand zeros. */
  readonly places: readonly GgufPlace[];
  /** Bytes of the whole file, a multiple of 32. */
  readonly size: number;
}

/** A tensor's bytes, in parts that follow each other. */
export type GgufParts = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** The format's own default for `general.alignment`, and the only one that is written. */
const ALIGNMENT = 32;
const VERSION = 3;

/** Limits of the format (ggml's `docs/gguf.md`), of ggml (GGML_MAX_NAME, GGML_MAX_DIMS), and of our reader. */
const LONGEST_KEY = 65535;
const LONGEST_NAME = 63;
const MOST_DIMENSIONS = 4;
const LONGEST_STRING = 2 ** 26;
const LARGEST_HEADER = 2 ** 28;
const DEEPEST = 4;

/** GGUF's numbers of value types. */
const VALUE_TYPES = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

const NUMBER_BYTES: Readonly<Record<GgufNumberType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  u64: 8,
  i64: 8,
  f64: 8,
};

/** Least and greatest of the integer types. */
const RANGES: Readonly<Record<string, readonly [number, number]>> = {
  u8: [0, 2 ** 8 - 1],
  i8: [-(2 ** 7), 2 ** 7 - 1],
  u16: [0, 2 ** 16 - 1],
  i16: [-(2 ** 15), 2 ** 15 - 1],
  u32: [0, 2 ** 32 - 1],
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u64: [0, Number.MAX_SAFE_INTEGER],
  i64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
};

/**
 * The header of a GGUF file (version 3, little-endian) and the place of each tensor's bytes behind it, in the order
 * given. Source: ggml's `docs/gguf.md`.
 * @param metadata values by key, written in the order of the object
 * @throws InputError for a key, name or value that the format or ggml has no room for, a value that is not of its type,
 *   a name that is taken twice, an impossible shape, or an alignment other than 32
 */
export function ggufLayout(
  metadata: Readonly<Record<string, GgufEntry>>,
  tensors: readonly GgufTensor[],
): GgufLayout {
  const { type, value } = metadata["general.alignment"] ?? { type: "u32", value: ALIGNMENT };
  if (type !== "u32" || value !== ALIGNMENT)
    throw new InputError(
      `gguf: general.alignment: expected ${ALIGNMENT} as u32, got ${String(value)} as ${type}`,
    );
  const writer = new HeaderWriter();
  writer.raw(new TextEncoder().encode("GGUF"));
  writer.number("version", "u32", VERSION);
  writer.number("tensors", "u64", tensors.length);
  writer.number("keys", "u64", Object.keys(metadata).length);
  for (const [key, entry] of Object.entries(metadata)) writer.entry(key, entry);
  const seen = new Set<string>();
  const offsets: number[] = [];
  let end = 0;
  for (const tensor of tensors) {
    if (seen.has(tensor.name))
      throw new InputError(`gguf: the name ${tensor.name} is taken twice; rename one of the two`);
    seen.add(tensor.name);
    offsets.push(end);
    end = aligned(end + writer.tensor(tensor, end));
    if (end > Number.MAX_SAFE_INTEGER - LARGEST_HEADER)
      throw new InputError(
        `gguf: tensor ${tensor.name} ends at byte ${end}, which no file reaches; write less`,
      );
  }
  const header = writer.done();
  const places = tensors.map(({ name, type, shape }, i) => ({
    name,
    start: header.length + offsets[i],
    bytes: tensorBytes(name, type, shape),
  }));
  return { header, places, size: header.length + end };
}

/**
 * The bytes of a file from its first to its last, in parts: what is written to a disk or a stream.
 * @param read the bytes of the tensor at a place
 * @throws InputError when a tensor's parts are not as many bytes as its place
 */
export async function* ggufChunks(
  { header, places }: GgufLayout,
  read: (place: GgufPlace, index: number) => GgufParts,
): AsyncGenerator<Uint8Array> {
  yield header;
  for (const [i, place] of places.entries()) {
    let bytes = 0;
    for await (const part of read(place, i)) {
      bytes += part.length;
      yield part;
    }
    if (bytes !== place.bytes)
      throw new InputError(`gguf: tensor ${place.name}: expected ${place.bytes} bytes, got ${bytes}`);
    const zeros = aligned(bytes) - bytes;
    if (zeros > 0) yield new Uint8Array(zeros);
  }
}

/**
 * A whole file in memory.
 * @param read as for `ggufChunks`
 * @throws InputError as `ggufChunks` does, and when there is no room for the file
 */
export async function ggufFile(
  layout: GgufLayout,
  read: (place: GgufPlace, index: number) => GgufParts,
): Promise<Uint8Array> {
  const out = allocate(layout.size);
  let at = 0;
  for await (const part of ggufChunks(layout, read)) {
    // A part too many would leave the array before its tensor is found to be too long.
    if (at < out.length) out.set(part.subarray(0, out.length - at), at);
    at += part.length;
  }
  return out;
}

function allocate(size: number): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch {
    throw new InputError(`gguf: a file of ${size} bytes does not fit in memory here; write it in chunks`);
  }
}

function aligned(at: number): number {
  return Math.ceil(at / ALIGNMENT) * ALIGNMENT;
}

/** Bytes that grow. */
class HeaderWriter {
  private bytes = new Uint8Array(2 ** 16);
  private view = new DataView(this.bytes.buffer);
  private length = 0;
  private readonly encoder = new TextEncoder();

  /** The bytes so far, padded with zeros. */
  done(): Uint8Array {
    this.room(aligned(this.length) - this.length);
    return this.bytes.slice(0, this.length);
  }

  raw(bytes: Uint8Array): void {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
  }

  entry(key: string, entry: GgufEntry): void {
    const what = `metadata ${key}`;
    if (key === "") throw new InputError("gguf: a metadata key is empty; expected a name");
    this.string("a metadata key", key, LONGEST_KEY);
    checkFields(`gguf: ${what}`, entry, ["type", "of", "value"]);
    this.type(what, entry.type);
    if (entry.type === "array") this.items(what, entry, 1);
    else this.scalar(what, entry.type, entry.value);
  }

  /** Describes a tensor at `offset`. Result: its bytes. */
  tensor(tensor: GgufTensor, offset: number): number {
    const { name, shape, type } = tensor;
    const what = `tensor ${name}`;
    checkFields(`gguf: ${what}`, tensor, ["name", "shape", "type"]);
    this.string("a tensor's name", name, LONGEST_NAME);
    if (!Array.isArray(shape) || shape.length > MOST_DIMENSIONS || shape.includes(0))
      this.fail(what, `a shape of at most ${MOST_DIMENSIONS} dimensions of 1 or more`, shape);
    if (!Object.hasOwn(GGML_TYPES, type))
      this.fail(what, `a type of ${Object.keys(GGML_TYPES).join(", ")}`, type);
    const bytes = tensorBytes(`gguf: ${what}`, type, shape);
    this.number(what, "u32", shape.length);
    for (const n of [...shape].reverse()) this.number(what, "u64", n);
    this.number(what, "u32", GGML_TYPES[type]);
    this.number(`${what}: its first byte`, "u64", offset);
    return bytes;
  }

  number(what: string, type: GgufNumberType, value: number): void {
    const range = RANGES[type];
    if (range) {
      if (!(Number.isInteger(value) && value >= range[0] && value <= range[1]))
        this.fail(what, `a whole number from ${range[0]} to ${range[1]} (${type})`, value);
    } else if (typeof value !== "number" || !Number.isFinite(type === "f32" ? Math.fround(value) : value))
      this.fail(what, `a finite number (${type})`, value);
    // Room first: making it may put another view in the place of this one.
    const at = this.room(NUMBER_BYTES[type]);
    const { view } = this;
    if (type === "f32") view.setFloat32(at, value, true);
    else if (type === "f64") view.setFloat64(at, value, true);
    else if (NUMBER_BYTES[type] === 8) view.setBigInt64(at, BigInt(value), true);
    else if (NUMBER_BYTES[type] === 4) view.setUint32(at, value, true);
    else if (NUMBER_BYTES[type] === 2) view.setUint16(at, value, true);
    else view.setUint8(at, value);
  }

  private items(what: string, { of, value }: GgufItems, depth: number): void {
    if (depth > DEEPEST)
      throw new InputError(`gguf: ${what}: arrays nest deeper than ${DEEPEST}; make it flatter`);
    this.type(what, of);
    if (!Array.isArray(value) && !ArrayBuffer.isView(value)) this.fail(what, "an array", value);
    this.number(what, "u64", value.length);
    for (let i = 0; i < value.length; i++) {
      const item = value[i];
      if (of !== "array") this.scalar(`${what}[${i}]`, of, item);
      else {
        checkFields(`gguf: ${what}[${i}]`, item as GgufItems, ["of", "value"]);
        this.items(`${what}[${i}]`, item as GgufItems, depth + 1);
      }
    }
  }

  private scalar(what: string, type: GgufNumberType | "bool" | "string", value: unknown): void {
    if (type === "string") this.string(what, value, LONGEST_STRING);
    else if (type !== "bool") this.number(what, type, value as number);
    else if (typeof value === "boolean") this.number(what, "u8", value ? 1 : 0);
    else this.fail(what, "true or false", value);
  }

  private string(what: string, value: unknown, longest: number): void {
    if (typeof value !== "string" || /\p{Surrogate}/u.test(value)) this.fail(what, "Unicode text", value);
    const text = this.encoder.encode(value as string);
    if (text.length > longest) this.fail(what, `at most ${longest} bytes of text`, value);
    this.number(what, "u64", text.length);
    this.raw(text);
  }

  private type(what: string, type: keyof typeof VALUE_TYPES): void {
    if (!Object.hasOwn(VALUE_TYPES, type))
      this.fail(what, `a type of ${Object.keys(VALUE_TYPES).join(", ")}`, type);
    this.number(what, "u32", VALUE_TYPES[type]);
  }

  /** Makes room for so many bytes more. Result: where they begin. */
  private room(bytes: number): number {
    const start = this.length;
    this.length += bytes;
    if (this.length > LARGEST_HEADER)
      throw new InputError(`gguf: the header is larger than ${LARGEST_HEADER} bytes; write less metadata`);
    if (this.length > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.length, 2 * this.bytes.length));
      grown.set(this.bytes);
      this.bytes = grown;
      this.view = new DataView(grown.buffer);
    }
    return start;
  }

  private fail(what: string, expected: string, got: unknown): never {
    const text = typeof got === "number" ? String(got) : (JSON.stringify(got) ?? String(got));
    throw new InputError(`gguf: ${what}: expected ${expected}, got ${text.slice(0, 80)}`);
  }
}
