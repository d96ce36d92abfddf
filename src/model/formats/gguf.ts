import { InputError } from "../../errors.js";
import type { StoredType } from "../../kernels/format.js";
import type { ByteSource, Checkpoint } from "./checkpoint.js";
import { GGML_TYPES } from "./ggml-types.js";
import { type GgufValue, readGgufHeader } from "./gguf-header.js";
import { checkSpans, StoredCheckpoint, type StoredTensor, tensorBytes } from "./tensors.js";

/** The stored types that lmhead reads, by ggml's numbers. */
const SUPPORTED: Readonly<Record<number, StoredType>> = Object.fromEntries(
  Object.entries(GGML_TYPES).map(([type, number]) => [number, type as StoredType]),
);

/** Names of the types that lmhead does not read, for messages (ggml.h). */
const UNSUPPORTED: Readonly<Record<number, string>> = {
  9: "Q8_1",
  10: "Q2_K",
  11: "Q3_K",
  15: "Q8_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  20: "IQ4_NL",
  21: "IQ3_S",
  22: "IQ2_S",
  23: "IQ4_XS",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  28: "F64",
  29: "IQ1_M",
  34: "TQ1_0",
  35: "TQ2_0",
  39: "MXFP4",
  40: "NVFP4",
  41: "Q1_0",
};

/** A GGUF file as a checkpoint, with the metadata that describe its model and tokenizer. */
export interface GgufCheckpoint extends Checkpoint {
  readonly format: "gguf";
  readonly metadata: ReadonlyMap<string, GgufValue>;
}

/** What a ggml type number is called. */
export function ggmlTypeName(ggmlType: number): string {
  return SUPPORTED[ggmlType] ?? UNSUPPORTED[ggmlType] ?? `type ${ggmlType}`;
}

/** Whether a file begins as a GGUF file does. */
export async function isGguf(source: ByteSource): Promise<boolean> {
  return source.size >= 4 && String.fromCharCode(...(await source.read(0, 4))) === "GGUF";
}

/**
 * Opens a GGUF file: reads and checks its header, leaves the tensors on the disk. The checkpoint closes the source.
 * Shapes are row-major: [out, in] of a linear layer.
 * @throws InputError for another version, a split file, a stored type that is not supported, or a header that lies
 */
export async function openGguf(source: ByteSource): Promise<GgufCheckpoint> {
  try {
    const { metadata, tensors: infos, dataStart } = await readGgufHeader(source);
    const splits = metadata.get("split.count");
    if (typeof splits === "number" && splits > 1)
      throw new InputError(
        `${source.name}: is one of ${splits} parts of a model; merge them first: llama-gguf-split --merge FIRST.gguf WHOLE.gguf`,
      );
    const tensors = new Map<string, StoredTensor>();
    for (const { name, shape, ggmlType, offset } of infos) {
      const what = `${source.name}: tensor ${name}`;
      const type = SUPPORTED[ggmlType];
      if (type === undefined)
        throw new InputError(
          `${what} is stored as ${ggmlTypeName(ggmlType)}, which is not supported; supported are ${Object.values(SUPPORTED).join(", ")}: choose another quantisation of the model`,
        );
      const bytes = tensorBytes(what, type, shape);
      tensors.set(name, { name, shape, type, source, start: dataStart + offset, bytes });
    }
    checkSpans(source.name, [...tensors.values()], source.size);
    return Object.assign(new StoredCheckpoint("gguf", source.name, tensors, new Map(), [source]), {
      format: "gguf" as const,
      metadata,
    });
  } catch (error) {
    await source.close?.();
    throw error;
  }
}
