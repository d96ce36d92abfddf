import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { FileSet } from "../../model/formats/checkpoint.js";
import { readText } from "../../model/formats/files.js";
import { type WrittenFile, type WrittenTensor, writeSafetensors, writeText } from "./run-files.js";

/** A model as a Hugging Face folder holds it. */
export interface ModelFolder {
  /** Its files but the weights, by name: config.json, tokenizer.json, … */
  readonly texts: ReadonlyMap<string, string>;
  /** Tensors in their stored layout. */
  readonly tensors: readonly WrittenTensor[];
}

export const CONFIG = "config.json";
export const TOKENIZER = "tokenizer.json";
export const TOKENIZER_CONFIG = "tokenizer_config.json";
const WEIGHTS = "model.safetensors";

/** What tells how to cut texts into tokens, and how to put a chat into one. */
export const TOKENIZER_FILES = [
  TOKENIZER,
  TOKENIZER_CONFIG,
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
];

/** What a model's folder may have beside its weights. */
export const MODEL_FILES = [CONFIG, "generation_config.json", ...TOKENIZER_FILES];

/** The files of these names that there are, as they stand. */
export async function readTexts(files: FileSet, names: readonly string[]): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for (const name of names) {
    const source = await files.open(name);
    if (!source) continue;
    try {
      texts.set(name, await readText(source));
    } finally {
      await source.close?.();
    }
  }
  return texts;
}

/** Whether a model's files stand in a folder; not whether they are whole. */
export async function isModel(path: string): Promise<boolean> {
  const found = await Promise.all(
    [CONFIG, WEIGHTS].map((name) => stat(join(path, name)).catch(() => undefined)),
  );
  return found.every((one) => one?.isFile());
}

/** Writes a model's files into a folder. Result: what each of them is. */
export async function writeModel(
  path: string,
  { texts, tensors }: ModelFolder,
): Promise<Record<string, WrittenFile>> {
  const written: Record<string, WrittenFile> = {};
  for (const [name, text] of texts) written[name] = await writeText(join(path, name), text);
  written[WEIGHTS] = await writeSafetensors(join(path, WEIGHTS), tensors);
  return written;
}
