import { InputError } from "../errors.js";
import type { Checkpoint, FileSet } from "./formats/checkpoint.js";
import { readJson } from "./formats/files.js";
import { CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG } from "./formats/folder.js";
import { openSafetensorsFolder } from "./formats/safetensors.js";

type Json = Record<string, unknown>;

/** A model as a Hugging Face folder describes it: its parsed JSON files and its tensors. */
export interface GgufExportInput {
  /** What the file calls the model (`general.name`), and messages too. */
  readonly name: string;
  /** config.json */
  readonly config: Json;
  /** tokenizer.json and tokenizer_config.json */
  readonly tokenizer: { readonly json: Json; readonly config?: Json };
  /** generation_config.json, of which only the end tokens have a place in the file. */
  readonly generation?: Json;
  /** Stays open: the caller closes it after the last chunk. */
  readonly checkpoint: Checkpoint;
}

/**
 * What `openGgufExport` takes, of a Hugging Face folder's files. Its checkpoint is to be closed.
 * @throws InputError for a folder without config.json, tokenizer.json or safetensors, or when one of them is damaged
 */
export async function ggufExportInput(files: FileSet): Promise<GgufExportInput> {
  const needed = async (name: string): Promise<Json> => {
    const json = await readJson(files, name);
    if (json) return json;
    throw new InputError(`${files.name}: has no ${name}: expected a Hugging Face folder with its tokenizer`);
  };
  return {
    // Of a path the folder's own name.
    name: files.name.split(/[\\/]/).findLast((part) => part !== "") ?? files.name,
    config: await needed(CONFIG),
    tokenizer: { json: await needed(TOKENIZER), config: await readJson(files, TOKENIZER_CONFIG) },
    generation: await readJson(files, GENERATION),
    checkpoint: await openSafetensorsFolder(files),
  };
}
