import { checkFields, InputError } from "../../errors.js";
import { Breather } from "../../kernels/reference/breather.js";
import { CHARACTER_OF_BYTE } from "../../model/tokenizer/byte-alphabet.js";
import { MergeLearner, type SymbolWords } from "./merges.js";
import { MOST_IDS } from "./pair-counts.js";
import { WordCounts } from "./word-counts.js";

/** How far a training has come: characters read, then tokens of the vocabulary. */
export type BpeProgress =
  | { readonly stage: "read"; readonly characters: number; readonly words: number }
  | { readonly stage: "merge"; readonly tokens: number; readonly vocabSize: number };

export interface TrainBpeOptions {
  /** Tokens of the vocabulary, special ones and the 256 bytes included; a whole number up to 2²⁴. Default 30000. */
  readonly vocabSize?: number;
  /** How often a pair must come to be merged; a whole number from 0. Default 2. */
  readonly minFrequency?: number;
  /** Tokens with the lowest ids, in this order, that no text is merged into. Default ["<|endoftext|>"]. */
  readonly specialTokens?: readonly string[];
  /** Whether a text that does not begin with a space gets one, in training and in encoding. Default false. */
  readonly addPrefixSpace?: boolean;
  /**
   * Pairs that would make a token of this many bytes or more are not counted, but for pairs of single bytes, as in
   * Hugging Face's `max_token_length`; a whole number from 2. Default: no limit.
   */
  readonly maxTokenLength?: number;
  /** Called after each text, and a hundred times or so while merging. */
  readonly onProgress?: (progress: BpeProgress) => void;
  readonly signal?: AbortSignal;
}

const FIELDS = [
  "vocabSize",
  "minFrequency",
  "specialTokens",
  "addPrefixSpace",
  "maxTokenLength",
  "onProgress",
  "signal",
] as const;

/** What a training gives. */
export interface TrainedBpe {
  /** A `tokenizer.json` as an object: `tokenizerFromJson`, or written to a file, Hugging Face's `tokenizers`. */
  readonly json: Record<string, unknown>;
  /** Tokens of the vocabulary. */
  readonly vocabSize: number;
  /** Whether that is what was asked for; false when the texts had no more pairs of `minFrequency`. */
  readonly complete: boolean;
  /** Different words that the texts were cut into. */
  readonly words: number;
}

/**
 * Trains a byte-level BPE tokenizer (Sennrich et al. 2016; GPT-2's alphabet and words). Vocabulary and merges equal
 * those of Hugging Face's `ByteLevelBPETokenizer.train_from_iterator` (`tokenizers` 0.23) on the same texts with the
 * same settings, as long as no pair comes more than 2³¹ times, where its counts overflow. A special token's text
 * inside the texts is read as any other text.
 *
 * @param texts each is cut into words by itself: words do not reach over their ends
 * @throws InputError for options out of range, a vocabulary without room for special tokens and bytes, texts without a
 *   character; AbortError
 * @example
 * const { json } = await trainBpe(["the cat", "the dog"], { vocabSize: 260 });
 * const tokenizer = tokenizerFromJson("mine", json);
 */
export async function trainBpe(
  texts: Iterable<string> | AsyncIterable<string>,
  options: TrainBpeOptions = {},
): Promise<TrainedBpe> {
  const settings = settingsOf(options);
  const { onProgress, signal } = options;
  const counts = new WordCounts(settings.addPrefixSpace);
  const breather = new Breather(signal);
  let characters = 0;
  checkTexts(texts);
  for await (const text of texts) {
    breather.stopIfPointless();
    if (typeof text !== "string")
      throw new InputError(`trainBpe: texts: expected strings, got ${text === null ? "null" : typeof text}`);
    counts.add(text);
    characters += text.length;
    onProgress?.({ stage: "read", characters, words: counts.counts.length });
    await breather.pause();
  }
  if (characters === 0)
    throw new InputError("trainBpe: the texts have no character; give some text to learn from");

  const { pieces, byteIds } = firstPieces(settings.specialTokens);
  const learner = new MergeLearner(symbolWords(counts, byteIds), pieces, settings);
  const every = Math.ceil((settings.vocabSize - pieces.length) / 100);
  const report = () =>
    onProgress?.({ stage: "merge", tokens: learner.pieces.length, vocabSize: settings.vocabSize });
  while (learner.step()) {
    if (learner.merges.length % every === 0) report();
    await breather.pause();
  }
  report();
  return {
    json: tokenizerJson(learner, settings),
    vocabSize: learner.pieces.length,
    complete: learner.pieces.length === settings.vocabSize,
    words: counts.counts.length,
  };
}

interface Settings {
  readonly vocabSize: number;
  readonly minFrequency: number;
  readonly specialTokens: readonly string[];
  readonly addPrefixSpace: boolean;
  readonly maxTokenLength: number;
}

function settingsOf(options: TrainBpeOptions): Settings {
  checkFields("trainBpe", options, FIELDS);
  const {
    vocabSize = 30_000,
    minFrequency = 2,
    specialTokens = ["<|endoftext|>"],
    addPrefixSpace = false,
    maxTokenLength = Infinity,
  } = options;
  const must = (ok: boolean, name: string, expected: string, got: unknown) => {
    if (!ok)
      throw new InputError(`trainBpe: ${name}: expected ${expected}, got ${JSON.stringify(got) ?? got}`);
  };
  must(
    Number.isSafeInteger(minFrequency) && minFrequency >= 0,
    "minFrequency",
    "a whole number from 0",
    minFrequency,
  );
  must(typeof addPrefixSpace === "boolean", "addPrefixSpace", "true or false", addPrefixSpace);
  must(
    maxTokenLength === Infinity || (Number.isSafeInteger(maxTokenLength) && maxTokenLength >= 2),
    "maxTokenLength",
    "a whole number from 2",
    maxTokenLength,
  );
  must(Array.isArray(specialTokens), "specialTokens", "an array of strings", specialTokens);
  const seen = new Set<string>();
  for (const token of specialTokens) {
    must(
      typeof token === "string" && token !== "" && !CHARACTER_OF_BYTE.includes(token) && !seen.has(token),
      "specialTokens",
      "different strings, none of which is empty or the character of a byte",
      token,
    );
    seen.add(token);
  }
  const least = specialTokens.length + 256;
  must(
    Number.isSafeInteger(vocabSize) && vocabSize >= least && vocabSize <= MOST_IDS,
    "vocabSize",
    `a whole number from ${least} (${specialTokens.length} special tokens and 256 bytes) to ${MOST_IDS}`,
    vocabSize,
  );
  return { vocabSize, minFrequency, specialTokens, addPrefixSpace, maxTokenLength };
}

/** A string is iterable too, but each of its characters alone is not what anyone trains on. */
function checkTexts(texts: unknown): void {
  const iterable = Symbol.iterator in Object(texts) || Symbol.asyncIterator in Object(texts);
  if (typeof texts === "string" || !iterable)
    throw new InputError(
      "trainBpe: texts: expected an iterable of strings, such as an array; a single text goes in brackets",
    );
}

/** Special tokens, then the bytes' characters by code point; and the id of each byte. */
function firstPieces(specialTokens: readonly string[]): { pieces: string[]; byteIds: Int32Array } {
  const pieces = [...specialTokens, ...[...CHARACTER_OF_BYTE].sort()];
  const byteIds = Int32Array.from(CHARACTER_OF_BYTE, (character) => pieces.indexOf(character));
  return { pieces, byteIds };
}

function symbolWords(words: WordCounts, byteIds: Int32Array): SymbolWords {
  const { counts } = words;
  const starts = new Float64Array(counts.length + 1);
  const lengths = new Int32Array(counts.length);
  let word = 0;
  for (const bytes of words.bytes()) {
    lengths[word] = bytes.length;
    starts[word + 1] = starts[word] + bytes.length;
    word++;
  }
  const symbols = new Int32Array(starts[word]);
  word = 0;
  for (const bytes of words.bytes()) {
    const start = starts[word++];
    for (let i = 0; i < bytes.length; i++) symbols[start + i] = byteIds[bytes[i]];
  }
  return { symbols, starts, lengths, counts };
}

/** The file that `ByteLevelBPETokenizer.save` writes, field for field. */
function tokenizerJson({ pieces, merges }: MergeLearner, settings: Settings): Record<string, unknown> {
  // Of a pair that was merged twice the later place is kept, as in Hugging Face's map of merges.
  const last = new Map(merges.map(([left, right], rank) => [left * MOST_IDS + right, rank]));
  const kept = merges.filter(([left, right], rank) => last.get(left * MOST_IDS + right) === rank);
  const byteLevel = { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: settings.specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { ...byteLevel, add_prefix_space: settings.addPrefixSpace },
    post_processor: { ...byteLevel, trim_offsets: false },
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: kept.map(([left, right]) => [pieces[left], pieces[right]]),
    },
  };
}
