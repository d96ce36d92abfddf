import { checkFields, InputError } from "../../errors.js";
import type { Checkpoint } from "./checkpoint.js";
import { bytesSource } from "./files.js";
import { countOf, StoredCheckpoint, type StoredTensor } from "./tensors.js";

/** A tensor in memory: float32 numbers, row-major. */
export interface MemoryTensor {
  /** One whole number for each dimension; [] is a single number. */
  readonly shape: readonly number[];
  /** As many numbers as the shape says. */
  readonly data: Float32Array;
}

/**
 * Tensors in memory as a checkpoint, as if they stood in a safetensors file. Nothing is copied: what is written to an
 * array later, later reads see.
 * @param name for error messages
 * @throws InputError for a tensor whose shape is impossible, or whose numbers are not a Float32Array of that many
 */
export function memoryCheckpoint(name: string, tensors: ReadonlyMap<string, MemoryTensor>): Checkpoint {
  const stored = new Map<string, StoredTensor>();
  for (const [tensor, given] of tensors) {
    const what = `${name}: tensor ${tensor}`;
    checkFields(what, given, ["shape", "data"]);
    const { shape, data } = given;
    const count = countOf(what, shape);
    if (!(data instanceof Float32Array))
      throw new InputError(
        `${what}: data: expected a Float32Array, got ${Object.prototype.toString.call(data)}`,
      );
    if (data.length !== count)
      throw new InputError(
        `${what}: shape [${shape.join(", ")}] holds ${count} numbers, but data has ${data.length}`,
      );
    const source = bytesSource(name, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    stored.set(tensor, {
      name: tensor,
      shape: [...shape],
      type: "f32",
      source,
      start: 0,
      bytes: source.size,
    });
  }
  return new StoredCheckpoint("safetensors", name, stored, new Map(), []);
}
