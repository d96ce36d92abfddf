import { InputError } from "../errors.js";
import type { FileSet } from "./formats/checkpoint.js";
import { memoryFiles } from "./formats/files.js";

/** The model inside the package, models/tiny-gpt: what `LanguageModel.load()` gives where no model is named. */
export const embeddedName = "tiny-gpt";

// Written out, so that bundlers find the files and carry them along.
const urls = {
  "tiny-gpt.gguf": new URL("../../models/tiny-gpt/tiny-gpt.gguf", import.meta.url),
  "generation_config.json": new URL("../../models/tiny-gpt/generation_config.json", import.meta.url),
};

/**
 * The embedded model's files.
 * @param read gives the bytes at a URL; default by `fetch`
 * @throws InputError when a file can't be had
 */
export async function embeddedFiles(read: (url: URL) => Promise<Uint8Array> = fetched): Promise<FileSet> {
  const files = await Promise.all(
    Object.entries(urls).map(async ([name, url]) => {
      try {
        return [name, await read(url)] as const;
      } catch (error) {
        throw new InputError(
          `the embedded model: ${url.href} can't be read (${(error as Error).message}); is the package whole? Or name a model`,
          { cause: error },
        );
      }
    }),
  );
  return memoryFiles(embeddedName, Object.fromEntries(files));
}

async function fetched(url: URL): Promise<Uint8Array> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}
