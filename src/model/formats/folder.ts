import type { FileSet } from "./checkpoint.js";
import { readText } from "./files.js";

/** The files of a Hugging Face folder, by name. */
export const CONFIG = "config.json";
export const GENERATION = "generation_config.json";
export const TOKENIZER = "tokenizer.json";
export const TOKENIZER_CONFIG = "tokenizer_config.json";
export const WEIGHTS = "model.safetensors";

/** What tells how to cut texts into tokens, and how to put a chat into one. */
export const TOKENIZER_FILES = [
  TOKENIZER,
  TOKENIZER_CONFIG,
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
];

/** What a model's folder may have beside its weights. */
export const MODEL_FILES = [CONFIG, GENERATION, ...TOKENIZER_FILES];

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

/** JSON as such a folder's files are written. */
export const prettyJson = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
