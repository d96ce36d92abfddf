import { InputError } from "../../errors.js";
import type { StoredType } from "../../kernels/format.js";
import type { ByteSource } from "./checkpoint.js";
import { isObject, kindOf, parseObject } from "./files.js";
import { checkSpans, countOf, type StoredTensor, tensorBytes } from "./tensors.js";

/** The stored types that lmhead reads. */
const TYPES: Readonly<Record<string, StoredType>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** Bits of one number of the types that may stand beside weights without being weights (masks, position ids). */
const PLAIN: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  I16: 2,
  U16: 2,
  I32: 4,
  U32: 4,
  I64: 8,
  U64: 8,
};

/** The format's own cap on the header, as the Rust library has it. */
const HEADER_CAP = 100_000_000;

/** What one safetensors file holds. */
export interface SafetensorsFile {
  readonly tensors: readonly StoredTensor[];
  /** Tensors of integer types, by name: their types. */
  readonly others: ReadonlyMap<string, string>;
}

/**
 * Reads the header of a safetensors file: u64 length, JSON { name: { dtype, shape, data_offsets } }, then the data.
 * Everything is checked against the file's size before it is believed.
 * @throws InputError saying which tensor and what is wrong with it
 */
export async function readSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  const file = source.name;
  if (source.size < 8)
    throw new InputError(`${file}: ${source.size} bytes are too few for a safetensors file`);
  const first = await source.read(0, 8);
  const wide = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (wide > BigInt(HEADER_CAP))
    throw new InputError(
      `${file}: claims a header of ${wide} bytes, expected at most ${HEADER_CAP}; is it a safetensors file?`,
    );
  const length = Number(wide);
  if (8 + length > source.size)
    throw new InputError(
      `${file}: claims a header of ${length} bytes, but the file has ${source.size}; is it cut short?`,
    );
  const header = parseHeader(file, await source.read(8, 8 + length));
  const tensors: StoredTensor[] = [];
  const others = new Map<string, string>();
  const spans: { name: string; start: number; bytes: number }[] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, start, bytes } = readEntry(`${file}: tensor ${name}`, entry);
    spans.push({ name, start: 8 + length + start, bytes });
    const type = Object.hasOwn(TYPES, dtype) ? TYPES[dtype] : undefined;
    if (type) tensors.push({ name, shape, type, source, start: 8 + length + start, bytes });
    else if (isMere(name, dtype)) others.set(name, dtype);
    else
      throw new InputError(
        `${file}: tensor ${name} is stored as ${dtype}, which is not supported; supported are ${Object.keys(TYPES).join(", ")}: save the model in one of them`,
      );
  }
  checkSpans(file, spans, source.size);
  return { tensors, others };
}

/**
 * Whether a tensor of this type is a mask or a table of positions rather than weights. A weight in integers is a
 * quantised checkpoint: passing over it would look like a tied head.
 */
function isMere(name: string, dtype: string): boolean {
  return Object.hasOwn(PLAIN, dtype) && !/weight$/.test(name);
}

function parseHeader(file: string, bytes: Uint8Array): Record<string, unknown> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new InputError(`${file}: the header is not UTF-8; is it a safetensors file?`);
  }
  const header = parseObject(`${file}: the header`, text);
  const twice = repeatedKey(text);
  if (twice !== undefined) throw new InputError(`${file}: tensor ${twice} stands in the header twice`);
  return header;
}

interface Entry {
  dtype: string;
  shape: number[];
  start: number;
  bytes: number;
}

function readEntry(what: string, entry: unknown): Entry {
  if (!isObject(entry)) throw new InputError(`${what}: expected an object, got ${kindOf(entry)}`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string")
    throw new InputError(`${what}: dtype: expected a string, got ${kindOf(dtype)}`);
  if (!Array.isArray(shape) || !shape.every((n): n is number => typeof n === "number") || shape.length > 16)
    throw new InputError(`${what}: shape: expected an array of numbers`);
  const isOffset = (n: unknown): n is number => typeof n === "number" && Number.isSafeInteger(n) && n >= 0;
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isOffset) || offsets[1] < offsets[0])
    throw new InputError(
      `${what}: data_offsets: expected [start, end], two whole numbers, got ${JSON.stringify(offsets)}`,
    );
  const [start, end] = offsets as [number, number];
  const count = countOf(what, shape);
  const known = Object.hasOwn(TYPES, dtype) ? tensorBytes(what, TYPES[dtype], shape) : undefined;
  const wanted = known ?? (Object.hasOwn(PLAIN, dtype) ? count * PLAIN[dtype] : end - start);
  if (wanted !== end - start)
    throw new InputError(
      `${what}: shape [${shape.join(", ")}] of ${dtype} takes ${wanted} bytes, but its offsets give ${end - start}`,
    );
  return { dtype, shape, start, bytes: end - start };
}

/** The first key that stands twice at the top of an object's (valid) JSON; `JSON.parse` would keep the last, silently. */
export function repeatedKey(json: string): string | undefined {
  const seen = new Set<string>();
  let depth = 0;
  let isKey = false;
  for (let i = 0; i < json.length; i++) {
    const c = json[i];
    if (c === '"') {
      const from = i;
      for (i++; json[i] !== '"'; i++) if (json[i] === "\\") i++;
      if (depth !== 1 || !isKey) continue;
      const key = JSON.parse(json.slice(from, i + 1)) as string;
      if (seen.has(key)) return key;
      seen.add(key);
      isKey = false;
    } else if (c === "{" || c === "[") {
      depth++;
      isKey = depth === 1;
    } else if (c === "}" || c === "]") depth--;
    else if (c === "," && depth === 1) isKey = true;
  }
  return undefined;
}
