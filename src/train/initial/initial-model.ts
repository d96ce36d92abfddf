import { InputError } from "../../errors.js";
import type { MemoryTensor } from "../../model/formats/memory.js";
import { type InitialTensor, type JsonObject, plans } from "./families.js";
import { normals } from "./normal.js";
import { checkShape, type ModelShape } from "./shape.js";

/** A model of random weights, in the form of a Hugging Face folder. */
export interface InitialModel {
  /** What `config.json` holds. */
  readonly config: JsonObject;
  /** Float32 tensors by the names that transformers' `save_pretrained` gives them, in the order of its modules. */
  readonly tensors: Map<string, MemoryTensor>;
}

/** 16 GiB in float32; a tensor's draws are counted in 32 bits. */
const MOST_NUMBERS = 2 ** 32;

/**
 * The random weights of a new model, each family's as transformers 5.24 initialises it: N(0, 0.02²) for linear layers
 * and embeddings, biases 0, norms 1 (Gemma 2's 0: they multiply by 1 + w); of GPT-2 the projections onto the residual
 * stream (`c_proj`) N(0, 0.02² / (2 · layers)), after Radford et al. 2019, "Language Models are Unsupervised Multitask
 * Learners". All else in the config is the class's default in transformers, but for Gemma 2's attention scale: that of
 * its head size.
 *
 * A number depends on the seed, its tensor's name, its index in the tensor and the tensor's standard deviation alone,
 * and has the same bits on every engine. Read it with `readHuggingFace(name, config, memoryCheckpoint(name, tensors))`.
 * @param seed a whole number in [0, 2^53)
 * @throws InputError for an unknown field or family, a size out of range, sizes that do not fit together, or a model
 *   that does not fit in memory
 */
export function initialModel(shape: ModelShape, seed: number): InitialModel {
  const sizes = checkShape(shape);
  if (!(Number.isSafeInteger(seed) && seed >= 0))
    throw new InputError(`initialModel: seed: expected a whole number in [0, 2^53), got ${seed}`);
  const { config, tensors } = plans[sizes.family](sizes);
  const total = tensors.reduce((sum, tensor) => sum + countOf(tensor), 0);
  if (total > MOST_NUMBERS) throw tooLarge(total);
  try {
    const filled = tensors.map((tensor): [string, MemoryTensor] => [
      tensor.name,
      { shape: tensor.shape, data: numbersOf(tensor, seed) },
    ]);
    return { config, tensors: new Map(filled) };
  } catch (error) {
    // What an engine says when it has no room for an array.
    if (error instanceof RangeError) throw tooLarge(total);
    throw error;
  }
}

function countOf({ shape }: InitialTensor): number {
  return shape.reduce((product, n) => product * n, 1);
}

function numbersOf(tensor: InitialTensor, seed: number): Float32Array {
  const count = countOf(tensor);
  if ("std" in tensor.from) return normals(seed, tensor.name, count, tensor.from.std);
  return new Float32Array(count).fill(tensor.from.fill);
}

function tooLarge(total: number): InputError {
  return new InputError(
    `initialModel: a model of ${total} numbers takes ${(total / 2 ** 28).toFixed(1)} GiB, more than fits in memory here; make hiddenSize, layers or vocabSize smaller`,
  );
}
