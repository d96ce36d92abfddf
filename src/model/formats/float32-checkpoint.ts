import type { Checkpoint } from "./checkpoint.js";
import { float32Source } from "./sources.js";

/**
 * A checkpoint as it is stored again after training: in float32. A family that goes by the stored type (Gemma 2 rounds
 * its embedding's scale to it) then reads the same model from both.
 */
export function float32Checkpoint(checkpoint: Checkpoint): Checkpoint {
  return {
    format: checkpoint.format,
    name: checkpoint.name,
    tensors: new Map([...checkpoint.tensors].map(([name, info]) => [name, { ...info, type: "f32" }])),
    matrix: (name, rows, cols) => float32Source(checkpoint.matrix(name, rows, cols)),
    vector: (name, length) => checkpoint.vector(name, length),
    close: () => checkpoint.close(),
  };
}
