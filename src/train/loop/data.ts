import { InputError } from "../../errors.js";
import type { Tokenizer } from "../../model/tokenizer/tokenizer.js";
import { Batches } from "../data/batches.js";
import { Corpus } from "../data/documents.js";
import { cachedIds } from "../data/id-cache.js";
import type { IdSource } from "../data/ids.js";
import { type DataSplit, type Span, splitIds } from "../data/split.js";
import { grouped } from "../report/format.js";
import { bytesRead, corpusOptions } from "./corpus-tokenizer.js";
import type { FilledSettings } from "./settings.js";
import { tokenBytes } from "./token-bytes.js";
import type { TokenizerFiles } from "./tokenizer-files.js";

/** What a run reads. */
export interface TrainingData {
  readonly training: Batches;
  readonly validation: Batches;
  close(): Promise<void>;
}

/** The texts of a run, before they are tokens. */
export interface Texts {
  readonly corpus: Corpus;
  readonly validation: Corpus | undefined;
  /** SHA-256 of what is in them and how they are read: a resumed run must find the same. */
  readonly hash: string;
}

/** Opens a run's texts. @throws InputError, AbortError */
export async function openTexts(
  path: string,
  settings: FilledSettings,
  signal: AbortSignal | undefined,
): Promise<Texts> {
  const { validationCorpus } = settings;
  const corpus = await Corpus.open(path, corpusOptions(settings));
  const trained = new Map<string, string>();
  const hash = await corpus.hash(signal, (file, hash) => trained.set(hash, file.path));
  if (validationCorpus === undefined) return { corpus, validation: undefined, hash };
  const validation = await Corpus.open(validationCorpus, corpusOptions(settings));
  const held = await validation.hash(signal, (file, hash) => {
    const same = trained.get(hash);
    if (same !== undefined && file.size > 0)
      throw new InputError(
        `validationCorpus: ${file.path} holds the same text as ${same}, which is trained on; give another text, or keep it outside of ${path}`,
      );
  });
  return { corpus, validation, hash: `${hash} ${held}` };
}

/** Texts as batches, tokenised once into `folder`. @throws InputError, AbortError */
export async function openData(
  { corpus, validation }: Texts,
  tokenizer: TokenizerFiles,
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
    const idsOf = async (texts: Corpus) => {
      const ids = await cachedIds(texts, {
        tokenizer: tokenizer.tokenizer,
        tokenizerHash: tokenizer.hash,
        ...around(tokenizer.tokenizer),
        folder,
        signal,
        onProgress: ({ ids }) => onProgress(`tokenising ${texts.name}: ${grouped(ids)} ids`),
      });
      opened.push(ids);
      return ids;
    };
    const ids = await idsOf(corpus);
    const whole = (source: IdSource) => [{ start: 0, end: source.length }];
    const held = validation && (await idsOf(validation));
    const parts = held
      ? { training: whole(ids), validation: whole(held) }
      : await splitCorpus(corpus, ids, tokenizer, settings, signal);
    return {
      training: named("training", () => train(ids, settings, parts.training)),
      validation: named("validation", () => validate(held ?? ids, settings, parts.validation)),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The ids put around each document: it begins as what the model is asked begins. */
function around(tokenizer: Tokenizer): { endOfText: number | null; beginOfText: number | null } {
  const endOfText = tokenizer.eosIds[0] ?? null;
  const [first] = tokenizer.encode("a");
  const begins = tokenizer.specialIds.has(first) && first !== endOfText;
  return { endOfText, beginOfText: begins ? first : null };
}

/** Sets a part of the ids aside that neither training nor the tokenizer has seen. */
async function splitCorpus(
  corpus: Corpus,
  ids: IdSource,
  tokenizer: TokenizerFiles,
  settings: FilledSettings,
  signal: AbortSignal | undefined,
): Promise<DataSplit> {
  const { validation, seed, init, tokenizer: given } = settings;
  const split = splitIds(ids, { validation, seed, keys: await corpus.keys(signal) });
  const single = ids.documents.length === 2;
  if (!single || init !== undefined || given !== undefined) return split;
  // The tokenizer of a single document has read some of its characters, and ids differ in how many they stand for.
  const first = await idAtByte(ids, tokenizer, await bytesRead(corpus, settings, signal));
  const [{ start, end }] = split.validation;
  if (first > end - 2)
    throw new InputError(
      `${corpus.name}: the end of the document, which is kept to validate, has too few tokens; set validation higher, or give documents (split, separator)`,
    );
  return { training: split.training, validation: [{ start: Math.max(start, first), end }] };
}

/** The first id whose text begins at this byte or later. */
async function idAtByte(ids: IdSource, { tokenizer }: TokenizerFiles, byte: number): Promise<number> {
  const bytes = tokenBytes(tokenizer, tokenizer.vocabSize);
  const most = 1 << 16;
  let before = 0;
  for (let first = 0; first < ids.length; first += most)
    for (const [i, id] of (await ids.read(first, Math.min(ids.length, first + most))).entries()) {
      if (before >= byte) return first + i;
      before += bytes[id];
    }
  return ids.length;
}

/** Says which part of the data an error is about, by the settings' names. */
function named<T>(part: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError(`${part}: ${error.message} (settings contextLength and batchSize)`, {
      cause: error,
    });
  }
}

function train(source: IdSource, settings: FilledSettings, spans: readonly Span[]): Batches {
  const { contextLength: length, batchSize: size, seed, documents } = settings;
  return new Batches(source, { length, size, seed, documents, spans });
}

/** Validation takes sequences as long as training's, or as long as its text is. */
function validate(source: IdSource, settings: FilledSettings, spans: readonly Span[]): Batches {
  const { contextLength, batchSize, documents } = settings;
  const tokens = spans.reduce((sum, { start, end }) => sum + end - start, 0);
  const length = Math.min(contextLength, Math.max(1, tokens - 1));
  const { sequences } = new Batches(source, { length, size: 1, documents, spans });
  return new Batches(source, { length, size: Math.min(batchSize, sequences), documents, spans });
}
