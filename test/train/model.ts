import { readHuggingFace } from "../../src/body/families/index.js";
import type { Device } from "../../src/kernels/device.js";
import { type MemoryTensor, memoryCheckpoint } from "../../src/model/formats/memory.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { placeModel } from "../../src/model/load.js";
import type { OpenModel } from "../../src/model/open.js";
import type { Batch } from "../../src/train/data/batches.js";
import { storedTensors } from "../../src/train/loop/stored-tensors.js";
import { storedLayout } from "../../src/train/stored-layout.js";

/** A model in memory, loaded for training, and its tensors as a checkpoint has them. */
export async function trainableModel(
  device: Device,
  config: Record<string, unknown>,
  tensors: ReadonlyMap<string, MemoryTensor>,
): Promise<{ model: LanguageModel; stored: () => Promise<Map<string, Float32Array>> }> {
  const checkpoint = memoryCheckpoint("test", tensors);
  const { architecture, spec } = await readHuggingFace("config.json", config, checkpoint);
  const opened: OpenModel = {
    name: "test",
    checkpoint,
    architecture,
    spec,
    generation: { bosId: undefined, eosIds: [], defaults: {} },
    tokenizer: undefined,
  };
  const layout = await storedLayout(config, checkpoint);
  const model = new LanguageModel(await placeModel(opened, { device, weights: "float32" }));
  const stored = async () => {
    const parts = storedTensors(model, layout, spec.head.bias);
    return new Map(await Promise.all(parts.map(async ({ name, read }) => [name, await read()] as const)));
  };
  return { model, stored };
}

/** Sequences of these lengths, each a segment of its own, every row predicting its target. */
export function batchOf(
  lengths: readonly number[],
  ids: ArrayLike<number>,
  targets: ArrayLike<number>,
): Batch {
  return {
    ids: Int32Array.from(ids),
    targets: Int32Array.from(targets),
    segments: Int32Array.from(lengths),
    size: lengths.length,
    predicted: targets.length,
  };
}
