import { readHuggingFace } from "../../body/families/index.js";
import { InputError } from "../../errors.js";
import type { FileSet } from "../../model/formats/checkpoint.js";
import { readJson } from "../../model/formats/files.js";
import { memoryCheckpoint } from "../../model/formats/memory.js";
import { openPath } from "../../model/formats/node-files.js";
import type { LanguageModel } from "../../model/language-model.js";
import { type OpenModel, openModel } from "../../model/open.js";
import { tokenizerFromJson } from "../../model/tokenizer/from-files.js";
import { Corpus } from "../data/documents.js";
import { initialModel } from "../initial/initial-model.js";
import { type StoredParameter, storedLayout } from "../stored-layout.js";
import { corpusOptions, corpusTokenizer, type TokenizerFiles } from "./data.js";
import type { ModelFolder } from "./model-folder.js";
import type { FilledSettings } from "./settings.js";
import { storedTensors } from "./stored-tensors.js";
import { untied } from "./untie.js";

type Json = Record<string, unknown>;

/** A model that is about to be trained: its files, and how to write them again. */
export interface Trainable {
  readonly opened: OpenModel;
  readonly tokenizer: TokenizerFiles;
  /** Its files, with the weights as the model has them at the moment at which they are read. */
  folder(model: LanguageModel): ModelFolder;
}

/**
 * The model of a run: of a checkpoint, of `init`, or new.
 * @param checkpoint the folder to go on from
 * @throws InputError for files that are not as they should be; AbortError
 */
export async function openTrainable(
  corpus: string,
  settings: FilledSettings,
  checkpoint: string | undefined,
  onProgress: (text: string) => void,
  signal: AbortSignal | undefined,
): Promise<Trainable> {
  const { init, freeze } = settings;
  const path = checkpoint ?? init;
  if (path !== undefined) return fromFolder(path, freeze === "body");
  return newModel(corpus, settings, onProgress, signal);
}

/** @param alone whether the head is to be a matrix of its own */
async function fromFolder(path: string, alone: boolean): Promise<Trainable> {
  const files = await folderOf(path);
  const config = await readJson(files, "config.json");
  if (!config)
    throw new InputError(
      `${path}: has no config.json; training goes on from Hugging Face folders, not GGUF files`,
    );
  const tokenizer = await folderTokenizer(files);
  const generation = await readJson(files, "generation_config.json");
  const stored = await openModel(files);
  try {
    const own = alone ? await untied(stored, config) : { opened: stored, config };
    const layout = await storedLayout(own.config, own.opened.checkpoint);
    return trainable(own.opened, tokenizer, own.config, layout, generation);
  } catch (error) {
    await stored.checkpoint.close();
    throw error;
  }
}

async function newModel(
  corpusPath: string,
  settings: FilledSettings,
  onProgress: (text: string) => void,
  signal: AbortSignal | undefined,
): Promise<Trainable> {
  const tokenizer =
    settings.tokenizer === undefined
      ? await trainedTokenizer(corpusPath, settings, onProgress, signal)
      : await folderTokenizer(await folderOf(settings.tokenizer));
  const { vocabSize, eosIds, bosId } = tokenizer.tokenizer;
  const { family, hiddenSize, layers, heads, kvHeads, innerSize, contextLength, tied, seed } = settings;
  const { config, tensors } = initialModel(
    {
      family,
      vocabSize,
      hiddenSize,
      layers,
      heads,
      ...(kvHeads !== undefined && { kvHeads }),
      ...(innerSize !== undefined && { innerSize }),
      maxPositions: contextLength,
      tied,
      ...(bosId !== undefined && { bosTokenId: bosId }),
      ...(eosIds.length > 0 && { eosTokenId: eosIds[0] }),
    },
    seed,
  );
  const checkpoint = memoryCheckpoint("new model", tensors);
  const { architecture, spec } = await readHuggingFace("config.json", config, checkpoint);
  const opened: OpenModel = {
    name: "new model",
    checkpoint,
    architecture,
    spec,
    generation: { bosId, eosIds, defaults: {} },
    tokenizer: tokenizer.tokenizer,
  };
  return trainable(opened, tokenizer, config, await storedLayout(config, checkpoint), undefined);
}

function trainable(
  opened: OpenModel,
  tokenizer: TokenizerFiles,
  config: Json,
  layout: ReadonlyMap<string, StoredParameter>,
  generation: Json | undefined,
): Trainable {
  // What is written is float32, whatever was read.
  const written = {
    ...config,
    ...("torch_dtype" in config && { torch_dtype: "float32" }),
    ...("dtype" in config && { dtype: "float32" }),
  };
  return {
    opened,
    tokenizer,
    folder: (model) => ({
      config: written,
      tokenizer: { json: tokenizer.json, config: tokenizer.config },
      ...(generation && { generation }),
      tensors: storedTensors(model, layout, opened.spec.head.bias),
    }),
  };
}

async function trainedTokenizer(
  path: string,
  settings: FilledSettings,
  onProgress: (text: string) => void,
  signal: AbortSignal | undefined,
): Promise<TokenizerFiles> {
  return corpusTokenizer(await Corpus.open(path, corpusOptions(settings)), settings, onProgress, signal);
}

async function folderTokenizer(files: FileSet): Promise<TokenizerFiles> {
  const json = await readJson(files, "tokenizer.json");
  if (!json) throw new InputError(`${files.name}: has no tokenizer.json`);
  const config = (await readJson(files, "tokenizer_config.json")) ?? {};
  return { tokenizer: tokenizerFromJson(`${files.name}/tokenizer.json`, json, config), json, config };
}

async function folderOf(path: string): Promise<FileSet> {
  const opened = await openPath(path);
  if (opened.kind === "folder") return opened.files;
  await opened.source.close?.();
  throw new InputError(`${path}: expected a Hugging Face folder, got a file`);
}
