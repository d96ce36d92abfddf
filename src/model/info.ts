import type { ModelSpec, NormSpec } from "../body/spec.js";
import { bodyMatrices } from "../body/upload.js";
import { BLOCKS, type StoredType } from "../kernels/format.js";
import type { Checkpoint } from "./formats/checkpoint.js";
import type { ModelInfo } from "./types.js";

/** Numbers in a model's weights. */
export interface Parameters {
  readonly parameters: number;
  /** Embedding, head (once, when tied) and the head's bias. */
  readonly vocabularyParameters: number;
  readonly vocabularyShare: number;
}

/** Counts the numbers in all weights; a matrix that is used twice counts once. */
export function countParameters(spec: ModelSpec, tied: boolean): Parameters {
  const { embedding, head, body } = spec;
  const vocabulary =
    embedding.table.rows * embedding.table.cols +
    (tied || !head.weight ? 0 : head.weight.rows * head.weight.cols) +
    (head.bias?.length ?? 0);
  const vectors = new Set<Float32Array>();
  const add = (vector: Float32Array | undefined) => vector && vectors.add(vector);
  const addNorm = (norm: NormSpec | undefined) => {
    add(norm?.weight);
    add(norm?.bias);
  };
  addNorm(body.finalNorm);
  for (const { attention, mlp } of body.layers) {
    for (const linear of [...attention.qkv, attention.output, mlp.gate, mlp.up, mlp.down]) add(linear?.bias);
    for (const sublayer of [attention, mlp])
      for (const norm of [sublayer.normIn, sublayer.normOut, sublayer.normSum]) addNorm(norm);
    addNorm(attention.qNorm);
    addNorm(attention.kNorm);
  }
  let parameters = vocabulary;
  for (const vector of vectors) parameters += vector.length;
  for (const matrix of bodyMatrices(body)) parameters += matrix.rows * matrix.cols;
  return {
    parameters,
    vocabularyParameters: vocabulary,
    vocabularyShare: vocabulary / parameters,
  };
}

/** How many tensors a checkpoint stores in each format, and their bytes; the largest first. */
export function storedFormats(checkpoint: Checkpoint): ModelInfo["formats"] {
  const formats = new Map<StoredType, { tensors: number; bytes: number }>();
  for (const { type, shape } of checkpoint.tensors.values()) {
    const entry = formats.get(type) ?? { tensors: 0, bytes: 0 };
    const numbers = shape.reduce((product, n) => product * n, 1);
    entry.tensors++;
    entry.bytes += (numbers / BLOCKS[type].size) * BLOCKS[type].bytes;
    formats.set(type, entry);
  }
  return [...formats].map(([type, entry]) => ({ type, ...entry })).sort((a, b) => b.bytes - a.bytes);
}
