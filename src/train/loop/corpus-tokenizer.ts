import { InputError } from "../../errors.js";
import { prettyJson, TOKENIZER, TOKENIZER_CONFIG } from "../../model/formats/folder.js";
import type { Corpus, CorpusOptions } from "../data/documents.js";
import { heldDocuments } from "../data/split.js";
import { grouped } from "../report/format.js";
import { trainBpe } from "../tokenizer/train-bpe.js";
import type { FilledSettings } from "./settings.js";
import { type TokenizerFiles, tokenizerOf } from "./tokenizer-files.js";

/** What `lmhead train` puts at the end of each document, and before what it is asked. */
export const END_OF_TEXT = "<|endoftext|>";

/** How a corpus is read, by the settings. */
export function corpusOptions({ split, separator, field }: FilledSettings): CorpusOptions {
  return { split: separator === undefined ? split : { separator }, field };
}

/**
 * A byte-level BPE tokenizer of a corpus. It puts the end of text before what it encodes: a text then begins as a
 * document begins, and its first token is predicted too.
 * @param exact whether `vocabSize` was asked for; a preset's is a limit, and a small text gets as many tokens as it has
 * @throws InputError when the text does not support the tokens that were asked for
 */
export async function corpusTokenizer(
  corpus: Corpus,
  settings: FilledSettings,
  exact: boolean,
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
          ? `tokenizer: ${grouped(progress.characters)} characters read`
          : `tokenizer: ${grouped(progress.tokens)} of ${grouped(progress.vocabSize)} tokens`,
      ),
  });
  if (exact && !trained.complete)
    throw new InputError(
      `${corpus.name}: the text supports a vocabulary of ${trained.vocabSize} tokens, not ${vocabSize}: set vocabSize to at most ${trained.vocabSize}, or give more text`,
    );
  const config = {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: END_OF_TEXT,
    eos_token: END_OF_TEXT,
    clean_up_tokenization_spaces: false,
  };
  const texts = new Map([
    [TOKENIZER, prettyJson({ ...trained.json, post_processor: beginWith(END_OF_TEXT, 0) })],
    [TOKENIZER_CONFIG, prettyJson(config)],
  ]);
  return tokenizerOf("new tokenizer", texts);
}

/**
 * The texts that a tokenizer is trained on: those of training alone, not a character of what `splitCorpus` keeps to
 * validate. Of a single document, which is split by ids, a fiftieth more is left out.
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
  const keys = await corpus.keys(signal);
  const single = keys.length === 1;
  const held = single ? [false] : heldDocuments(corpus.name, keys, validation, seed);
  let left = single ? Math.ceil((await charactersOf(corpus, signal)) * (1 - validation) * 0.98) : Infinity;
  let document = 0;
  for await (const { text, last } of corpus.documents(signal)) {
    if (!held[document] && left > 0) yield text.slice(0, left);
    left -= text.length;
    if (last) document++;
  }
}

async function charactersOf(corpus: Corpus, signal: AbortSignal | undefined): Promise<number> {
  let characters = 0;
  for await (const { text } of corpus.documents(signal)) characters += text.length;
  return characters;
}

/** UTF-8 bytes that `corpusTokenizer` has read of a corpus. */
export async function bytesRead(
  corpus: Corpus,
  settings: FilledSettings,
  signal: AbortSignal | undefined,
): Promise<number> {
  let bytes = 0;
  for await (const text of trainingTexts(corpus, settings, signal)) bytes += Buffer.byteLength(text);
  return bytes;
}

function beginWith(token: string, id: number): Record<string, unknown> {
  const special = { SpecialToken: { id: token, type_id: 0 } };
  const sequence = (name: string, type: number) => ({ Sequence: { id: name, type_id: type } });
  return {
    type: "TemplateProcessing",
    single: [special, sequence("A", 0)],
    pair: [special, sequence("A", 0), sequence("B", 1)],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}
