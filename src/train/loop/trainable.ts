import { readHuggingFace } from "../../body/families/index.js";
import { InputError } from "../../errors.js";
import type { FileSet } from "../../model/formats/checkpoint.js";
import { parseObject } from "../../model/formats/files.js";
import { float32Checkpoint } from "../../model/formats/float32-checkpoint.js";
import { CONFIG, MODEL_FILES, prettyJson, readTexts } from "../../model/formats/folder.js";
import { memoryCheckpoint } from "../../model/formats/memory.js";
import { openPath } from "../../model/formats/node-files.js";
import type { LanguageModel } from "../../model/language-model.js";
import { type OpenModel, openModel } from "../../model/open.js";
import { Corpus } from "../data/documents.js";
import { initialModel } from "../initial/initial-model.js";
import { checkShape, type ModelShape } from "../initial/shape.js";
import { float32Config } from "../saved-model.js";
import { storedLayout } from "../stored-layout.js";
import { corpusOptions, corpusTokenizer } from "./corpus-tokenizer.js";
import { editJson } from "./edit-json.js";
import type { ModelFolder } from "./model-folder.js";
import type { FilledSettings } from "./settings.js";
import { storedTensors } from "./stored-tensors.js";
import { openTokenizerFolder, type TokenizerFiles, tokenizerOf } from "./tokenizer-files.js";
import { untied } from "./untie.js";

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
 * @param exact whether a new tokenizer must have all of `vocabSize`; else it has what the text supports of it
 * @throws InputError for files that are not as they should be; AbortError
 */
export async function openTrainable(
  corpus: string,
  settings: FilledSettings,
  checkpoint: string | undefined,
  exact: boolean,
  onProgress: (text: string) => void,
  signal: AbortSignal | undefined,
): Promise<Trainable> {
  const path = checkpoint ?? settings.init;
  if (path !== undefined) return fromFolder(path, settings);
  return newModel(corpus, settings, exact, onProgress, signal);
}

async function fromFolder(path: string, settings: FilledSettings): Promise<Trainable> {
  const files = await folderOf(path);
  const given = await readTexts(files, MODEL_FILES);
  const tokenizer = tokenizerOf(path, given);
  const stored = await openModel(files);
  try {
    if (stored.checkpoint.format !== "safetensors")
      throw new InputError(`${path}: expected a Hugging Face folder with safetensors, got a GGUF file in it`);
    const { contextLength, freeze } = settings;
    const { maxPositions } = stored.spec.body;
    if (contextLength > maxPositions)
      throw new InputError(
        `contextLength: ${contextLength}, but the context of ${path} has ${maxPositions} positions; set it to at most that`,
      );
    const what = `${path}/${CONFIG}`;
    const float32 = float32Config(what, given.get(CONFIG)!);
    // A head that learns alone is a matrix of its own.
    const config = freeze === "body" ? editJson(what, float32, { tie_word_embeddings: false }) : float32;
    const wide = float32Checkpoint(stored.checkpoint);
    const checkpoint = freeze === "body" ? untied(wide, stored.spec) : wide;
    const { spec } = await readHuggingFace(what, parseObject(what, config), checkpoint);
    const opened = { ...stored, checkpoint, spec };
    return await trainable(opened, tokenizer, new Map([...given, [CONFIG, config]]));
  } catch (error) {
    await stored.checkpoint.close();
    throw error;
  }
}

async function newModel(
  corpusPath: string,
  settings: FilledSettings,
  exact: boolean,
  onProgress: (text: string) => void,
  signal: AbortSignal | undefined,
): Promise<Trainable> {
  // Sizes that do not fit together are said before a tokenizer is trained, which takes long.
  checkShape(shapeOf(settings, settings.vocabSize));
  const tokenizer =
    settings.tokenizer === undefined
      ? await corpusTokenizer(
          await Corpus.open(corpusPath, corpusOptions(settings)),
          settings,
          exact,
          onProgress,
          signal,
        )
      : await openTokenizerFolder(settings.tokenizer);
  const { vocabSize, eosIds, bosId } = tokenizer.tokenizer;
  const { config, tensors } = initialModel(
    {
      ...shapeOf(settings, vocabSize),
      ...(bosId !== undefined && { bosTokenId: bosId }),
      ...(eosIds.length > 0 && { eosTokenId: eosIds[0] }),
    },
    settings.seed,
  );
  const name = "new model";
  const checkpoint = memoryCheckpoint(name, tensors);
  const { architecture, spec } = await readHuggingFace(CONFIG, config, checkpoint);
  const generation = { bosId, eosIds, defaults: {} };
  const opened = {
    name,
    checkpoint,
    architecture,
    spec,
    generation,
    tokenizer: tokenizer.tokenizer,
  };
  return trainable(opened, tokenizer, new Map([[CONFIG, prettyJson(config)], ...tokenizer.texts]));
}

function shapeOf(settings: FilledSettings, vocabSize: number): ModelShape {
  const { family, hiddenSize, layers, heads, kvHeads, innerSize, contextLength, tied } = settings;
  return {
    family,
    vocabSize,
    hiddenSize,
    layers,
    heads,
    ...(kvHeads !== undefined && { kvHeads }),
    ...(innerSize !== undefined && { innerSize }),
    maxPositions: contextLength,
    tied,
  };
}

/** @param texts its files but the weights */
async function trainable(
  opened: OpenModel,
  tokenizer: TokenizerFiles,
  texts: ReadonlyMap<string, string>,
): Promise<Trainable> {
  const { checkpoint, spec } = opened;
  const rows = spec.embedding.table.rows;
  if (tokenizer.tokenizer.vocabSize > rows)
    throw new InputError(
      `${opened.name}: its tokenizer has ${tokenizer.tokenizer.vocabSize} tokens, its embedding ${rows} rows: they do not belong together`,
    );
  const layout = await storedLayout(parseObject(CONFIG, texts.get(CONFIG)!), checkpoint);
  return {
    opened,
    tokenizer,
    folder: (model) => ({ texts, tensors: storedTensors(model, layout, spec.head.bias) }),
  };
}

async function folderOf(path: string): Promise<FileSet> {
  const opened = await openPath(path);
  if (opened.kind === "folder") return opened.files;
  await opened.source.close?.();
  throw new InputError(
    `${path}: expected a Hugging Face folder with safetensors weights, got a file; no run begins with a GGUF file`,
  );
}
