import { readFile } from "node:fs/promises";
import { throwIfAborted } from "./errors.js";
import { embeddedFiles } from "./model/embedded.js";
import { openPath } from "./model/formats/node-files.js";
import { LanguageModel as AnyLanguageModel } from "./model/language-model.js";
import { loadModel } from "./model/load.js";
import { openTokenizer } from "./model/open.js";
import type { Tokenizer } from "./model/tokenizer/tokenizer.js";
import type { CallOptions, LoadOptions, ModelFiles } from "./model/types.js";

/** lmhead for Node: all of index.ts, and models by their paths. */
export * from "./index.js";
export { fileSource, folderFiles } from "./model/formats/node-files.js";
export { Corpus, type CorpusFile, type CorpusOptions } from "./train/data/documents.js";
export { type CachedIdsOptions, cachedIds, tokenizerHash } from "./train/data/id-cache.js";
export type { RunEvents, RunResult } from "./train/loop/run.js";
export { settingsSchema } from "./train/loop/schema.js";
export type { TrainSettings } from "./train/loop/settings.js";
export { type TrainOptions, train } from "./train/loop/train.js";
export { trainingReport } from "./train/report/report.js";
export { saveModel } from "./train/save-model.js";

/** A language model; in Node `load` takes a path too. */
export class LanguageModel extends AnyLanguageModel {
  /**
   * Loads a model by its path (a Hugging Face folder, a .gguf file or a folder of one), or from named files.
   * @param location default: the model inside the package, models/tiny-gpt (see its card)
   * @throws InputError for anything wrong with the path, the files or the options, or a model that does not fit
   */
  static override async load(
    location?: string | ModelFiles,
    options: LoadOptions = {},
  ): Promise<LanguageModel> {
    throwIfAborted(options.signal);
    return new LanguageModel(await loadModel(await filesOf(location), options));
  }
}

/** The tokenizer of a model alone, by path or from named files; default: the embedded model's. @throws InputError when there is none */
export async function loadTokenizer(
  location?: string | ModelFiles,
  options: CallOptions = {},
): Promise<Tokenizer> {
  throwIfAborted(options.signal);
  return openTokenizer(await filesOf(location));
}

async function filesOf(location: string | ModelFiles | undefined): Promise<ModelFiles> {
  if (location === undefined) return embeddedFiles((url) => readFile(url));
  if (typeof location !== "string") return location;
  const opened = await openPath(location);
  return opened.kind === "folder" ? opened.files : opened.source;
}
