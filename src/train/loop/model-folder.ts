import { stat } from "node:fs/promises";
import { join } from "node:path";
import { CONFIG, WEIGHTS } from "../../model/formats/folder.js";
import { type WrittenFile, type WrittenTensor, writeSafetensors, writeText } from "./run-files.js";

/** A model as a Hugging Face folder holds it. */
export interface ModelFolder {
  /** Its files but the weights, by name: config.json, tokenizer.json, … */
  readonly texts: ReadonlyMap<string, string>;
  /** Tensors in their stored layout. */
  readonly tensors: readonly WrittenTensor[];
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
