import { join } from "node:path";
import { json, type WrittenFile, type WrittenTensor, writeSafetensors, writeText } from "./run-files.js";

type Json = Record<string, unknown>;

/** A model as a Hugging Face folder describes it. */
export interface ModelFolder {
  /** config.json */
  readonly config: Json;
  /** tokenizer.json and tokenizer_config.json */
  readonly tokenizer?: { readonly json: Json; readonly config: Json };
  /** generation_config.json */
  readonly generation?: Json;
  /** Tensors in their stored layout. */
  readonly tensors: readonly WrittenTensor[];
}

/** Writes a model's files into a folder. Result: what its weights' file is. */
export async function writeModel(path: string, folder: ModelFolder): Promise<WrittenFile> {
  const { config, tokenizer, generation, tensors } = folder;
  await writeText(join(path, "config.json"), json(config));
  if (tokenizer) {
    await writeText(join(path, "tokenizer.json"), json(tokenizer.json));
    await writeText(join(path, "tokenizer_config.json"), json(tokenizer.config));
  }
  if (generation) await writeText(join(path, "generation_config.json"), json(generation));
  return writeSafetensors(join(path, "model.safetensors"), tensors);
}
