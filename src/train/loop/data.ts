import { InputError } from "../../errors.js";
import { tokenizerFromJson } from "../../model/tokenizer/from-files.js";
import type { Tokenizer } from "../../model/tokenizer/tokenizer.js";
import { Batches } from "../data/batches.js";
import { Corpus, type CorpusOptions } from "../data/documents.js";
import { cachedIds, tokenizerHash } from "../data/id-cache.js";
import type { IdSource } from "../data/ids.js";
import { heldDocuments, type Span, splitIds } from "../data/split.js";
import { trainBpe } from "../tokenizer/train-bpe.js";
import type { FilledSettings } from "./settings.js";

type Json = Record<string, unknown>;

/** A tokenizer with the files that it is written to. */
export interface TokenizerFiles {
  readonly tokenizer: Tokenizer;
  readonly json: Json;
  readonly config: Json;
}

/** What `lmhead train` puts at the end of each document, and before what it is asked. */
export const END_OF_TEXT = "<|endoftext|>";

/** How a corpus is read, by the settings. */
export function corpusOptions({ split, separator, field }: FilledSettings): CorpusOptions {
  return { split: separator === undefined ? split : { separator }, field };
}

/**
 * A byte-level BPE tokenizer of a corpus. It puts the end of text before what it encodes: a text then begins as a
 * document begins, and its first token is predicted too.
 * @throws InputError when the text does not support so many tokens
 */
export async function corpusTokenizer(
  corpus: Corpus,
  settings: FilledSettings,
  onProgress: (text: string) => void,
  signal: AbortSignal | undefined,
): Promise<TokenizerFiles> {
  const { vocabSize } = settings;
  const trained = await trainBpe(trainingTexts(corpus, settings, signal), {
    vocabSize,
    specialTokens: [END_OF_TEXT],
    signal,
    onProgress: (progress) =>
      onProgress(
        progress.stage === "read"
          ? `tokenizer: ${progress.characters} characters read`
          : `tokenizer: ${progress.tokens} of ${progress.vocabSize} tokens`,
      ),
  });
  if (!trained.complete)
    throw new InputError(
      `${corpus.name}: the text supports a vocabulary of ${trained.vocabSize} tokens, not ${vocabSize}: set vocabSize to at most ${trained.vocabSize}, or give more text`,
    );
  const json = { ...trained.json, post_processor: beginWith(END_OF_TEXT, 0) };
  const config = {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: END_OF_TEXT,
    eos_token: END_OF_TEXT,
    clean_up_tokenization_spaces: false,
  };
  return { tokenizer: tokenizerFromJson("tokenizer.json", json, config), json, config };
}

/**
 * The texts that are trained on, without those that `openData` keeps to validate: not even a tokenizer has seen them.
 * Of a single document, which is split by ids, the end is left out with some more.
 */
async function* trainingTexts(
  corpus: Corpus,
  { validation, validationCorpus, seed }: FilledSettings,
  signal: AbortSignal | undefined,
): AsyncGenerator<string> {
  if (validationCorpus !== undefined) {
    yield* corpus.texts(signal);
    return;
  }
  let [documents, characters] = [0, 0];
  for await (const { text, last } of corpus.documents(signal)) {
    characters += text.length;
    if (last) documents++;
  }
  const held = documents > 1 ? heldDocuments(documents, validation, seed) : [false];
  let left = documents > 1 ? Infinity : Math.ceil(characters * (1 - validation) * 0.98);
  let document = 0;
  for await (const { text, last } of corpus.documents(signal)) {
    if (!held[document] && left > 0) yield text.slice(0, left);
    left -= text.length;
    if (last) document++;
  }
}

function beginWith(token: string, id: number): Json {
  const special = { SpecialToken: { id: token, type_id: 0 } };
  const sequence = (name: string, type: number) => ({ Sequence: { id: name, type_id: type } });
  return {
    type: "TemplateProcessing",
    single: [special, sequence("A", 0)],
    pair: [special, sequence("A", 0), sequence("B", 1)],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}

/** What a run reads. */
export interface TrainingData {
  readonly training: Batches;
  readonly validation: Batches;
  /** SHA-256 of the texts and how they are read: a resumed run must find the same. */
  readonly hash: string;
  close(): Promise<void>;
}

/** Opens a corpus as batches, tokenised once into `folder`. @throws InputError, AbortError */
export async function openData(
  corpusPath: string,
  { tokenizer, json, config }: TokenizerFiles,
  settings: FilledSettings,
  folder: string,
  onProgress: (text: string) => void,
  signal: AbortSignal | undefined,
): Promise<TrainingData> {
  const opened: { close(): Promise<void> }[] = [];
  const close = async () => {
    for (const file of opened) await file.close();
  };
  try {
    const open = async (path: string) => {
      const corpus = await Corpus.open(path, corpusOptions(settings));
      const ids = await cachedIds(corpus, {
        tokenizer,
        tokenizerHash: tokenizerHash(json, config),
        endOfText: tokenizer.eosIds[0] ?? null,
        folder,
        signal,
        onProgress: ({ ids }) => onProgress(`tokenising ${path}: ${ids} ids`),
      });
      opened.push(ids);
      return { ids, hash: await corpus.hash(signal) };
    };
    const main = await open(corpusPath);
    const { validationCorpus, validation, seed } = settings;
    if (validationCorpus !== undefined) {
      const held = await open(validationCorpus);
      const hash = `${main.hash} ${held.hash}`;
      return { training: train(main.ids, settings), validation: validate(held.ids, settings), hash, close };
    }
    const { training, validation: held } = splitIds(main.ids, { validation, seed });
    return {
      training: train(main.ids, settings, training),
      validation: validate(main.ids, settings, held),
      hash: main.hash,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function train(source: IdSource, settings: FilledSettings, spans?: readonly Span[]): Batches {
  const { contextLength: length, batchSize: size, seed, documents } = settings;
  return new Batches(source, { length, size, seed, documents, spans });
}

/** Validation takes sequences as long as training's, or as long as its text is. */
function validate(source: IdSource, settings: FilledSettings, spans?: readonly Span[]): Batches {
  const { contextLength, batchSize, documents } = settings;
  const tokens = spans?.reduce((sum, { start, end }) => sum + end - start, 0) ?? source.length;
  const length = Math.min(contextLength, Math.max(1, tokens - 1));
  const { sequences } = new Batches(source, { length, size: 1, documents, spans });
  return new Batches(source, { length, size: Math.min(batchSize, sequences), documents, spans });
}
