import { checkFields, InputError } from "../../errors.js";
import { tensorBytes } from "./tensors.js";

/** A tensor that is to be written: its numbers come later. */
export interface TensorToStore {
  readonly name: string;
  /** One whole number for each dimension. */
  readonly shape: readonly number[];
  readonly type: "f32";
}

/** Where a tensor's bytes go in the file. */
export interface TensorPlace {
  readonly name: string;
  /** First byte in the file, a multiple of 4, and number of bytes. */
  readonly start: number;
  readonly bytes: number;
}

/** What a safetensors file begins with, and where everything else goes. */
export interface SafetensorsLayout {
  readonly header: Uint8Array;
  /** In the order given; each begins where the one before it ends, the first at the end of the header. */
  readonly places: readonly TensorPlace[];
  /** Bytes of the whole file. */
  readonly size: number;
}

/** transformers refuses a file whose metadata name no format. */
const PYTORCH = { format: "pt" };

/** The most dimensions that readSafetensors takes. */
const MOST_DIMENSIONS = 16;

/** The format's own cap on the header, as the Rust library has it. */
const HEADER_CAP = 100_000_000;

/**
 * The first bytes of a safetensors file, a multiple of 8 in number (padded with spaces, as the format's own library
 * does). After them come each tensor's numbers, little-endian, in the order given, so that a file can be written tensor by
 * tensor. With the tensors in the library's order (by name) the bytes are those that it writes.
 * Source: the safetensors README, "Format".
 * @param metadata strings by name; default { format: "pt" }, without which transformers does not load a file
 * @throws InputError for a name that is taken twice or is no Unicode text, an impossible shape, another type, metadata
 *   that are not strings, or a header beyond the format's 100 MB
 */
export function safetensorsHeader(
  tensors: readonly TensorToStore[],
  metadata: Readonly<Record<string, string>> = PYTORCH,
): Uint8Array {
  for (const [name, value] of Object.entries(metadata))
    if (typeof value !== "string")
      throw new InputError(`safetensors: metadata ${name}: expected a string, got ${typeof value}`);
  // Written entry by entry: an object would put names like "0" first.
  const entries = [`"__metadata__":${JSON.stringify(metadata)}`];
  const seen = new Set(["__metadata__"]);
  let at = 0;
  for (const tensor of tensors) {
    const { name, shape } = tensor;
    if (typeof name !== "string" || /\p{Surrogate}/u.test(name))
      throw new InputError(
        `safetensors: a tensor's name: expected Unicode text, got ${JSON.stringify(name)}`,
      );
    if (seen.has(name))
      throw new InputError(`safetensors: the name ${name} is taken twice; rename one of the two`);
    seen.add(name);
    const end = at + bytesOf(tensor);
    if (!Number.isSafeInteger(end))
      throw new InputError(
        `safetensors: tensor ${name} ends at byte ${end}, which no file reaches; write less`,
      );
    entries.push(
      `${JSON.stringify(name)}:${JSON.stringify({ dtype: "F32", shape, data_offsets: [at, end] })}`,
    );
    at = end;
  }
  return withLength(`{${entries.join(",")}}`);
}

/**
 * The header of a safetensors file and the place of each tensor's bytes behind it.
 * @param metadata as for `safetensorsHeader`
 * @throws InputError as `safetensorsHeader` does
 */
export function safetensorsLayout(
  tensors: readonly TensorToStore[],
  metadata?: Readonly<Record<string, string>>,
): SafetensorsLayout {
  const header = safetensorsHeader(tensors, metadata);
  let size = header.length;
  const places = tensors.map((tensor) => {
    const bytes = bytesOf(tensor);
    const start = size;
    size += bytes;
    return { name: tensor.name, start, bytes };
  });
  return { header, places, size };
}

function bytesOf(tensor: TensorToStore): number {
  const what = `safetensors: tensor ${tensor.name}`;
  checkFields(what, tensor, ["name", "shape", "type"]);
  const { shape, type } = tensor;
  if (type !== "f32") throw new InputError(`${what}: type: expected f32, got ${type}`);
  if (!Array.isArray(shape) || shape.length > MOST_DIMENSIONS)
    throw new InputError(`${what}: shape: expected an array of at most ${MOST_DIMENSIONS} numbers`);
  return tensorBytes(what, type, shape);
}

/** u64 length, JSON, spaces. */
function withLength(json: string): Uint8Array {
  const text = new TextEncoder().encode(json);
  const length = Math.ceil(text.length / 8) * 8;
  if (length > HEADER_CAP)
    throw new InputError(
      `safetensors: the header takes ${length} bytes, the format allows ${HEADER_CAP}; write fewer tensors`,
    );
  const out = new Uint8Array(8 + length).fill(0x20);
  new DataView(out.buffer).setBigUint64(0, BigInt(length), true);
  out.set(text, 8);
  return out;
}
