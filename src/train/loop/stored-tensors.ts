import { InputError } from "../../errors.js";
import type { LanguageModel } from "../../model/language-model.js";
import type { StoredParameter } from "../stored-layout.js";
import { modelParameters } from "../trainer/parameters.js";
import { numbersOf } from "../trainer/slot.js";
import type { WrittenTensor } from "./run-files.js";

/**
 * A model's tensors as its checkpoint stores them, with the numbers that the device has when they are read.
 * @param bias the head's bias as it was read: its end, beyond the tokenizer's ids, is written as it was
 */
export function storedTensors(
  model: LanguageModel,
  layout: ReadonlyMap<string, StoredParameter>,
  bias: Float32Array | undefined,
): WrittenTensor[] {
  const values = new Map(modelParameters(model).map(({ name, value }) => [name, value]));
  return [...layout.values()].map(({ path, name, shape, toStored }) => {
    // Of a head that equals the embedding the device holds one matrix, and the checkpoint two.
    const value = values.get(path) ?? (path === "head.weight" ? values.get("embedding.table") : undefined);
    if (value === undefined) throw new InputError(`${name}: is in the checkpoint, but not in the model`);
    const numbers = async () => {
      if (!(value instanceof Float32Array)) return numbersOf(value);
      return path === "head.bias" && bias ? withEnd(value, bias) : value;
    };
    return { name, shape, read: async () => toStored(await numbers()) };
  });
}

function withEnd(values: Float32Array, stored: Float32Array): Float32Array {
  const whole = stored.slice();
  whole.set(values);
  return whole;
}
