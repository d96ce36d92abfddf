import type { ModelSpec } from "../../body/spec.js";
import type { Checkpoint } from "../../model/formats/checkpoint.js";

/**
 * A checkpoint whose head has a tensor of its own, so that it can be trained while the embedding stays: where the
 * embedding serves for both, the head gets a copy of it under the name that the family has for a head.
 */
export function untied(checkpoint: Checkpoint, { embedding, head }: ModelSpec): Checkpoint {
  if (head.weight) return checkpoint;
  const { name } = embedding;
  const copy = head.names[0];
  const own = (wanted: string) => (wanted === copy ? name : wanted);
  return {
    format: checkpoint.format,
    name: checkpoint.name,
    tensors: new Map([...checkpoint.tensors, [copy, { ...checkpoint.tensors.get(name)!, name: copy }]]),
    matrix: (wanted, rows, cols) => checkpoint.matrix(own(wanted), rows, cols),
    vector: (wanted, length) => checkpoint.vector(own(wanted), length),
    close: () => checkpoint.close(),
  };
}
