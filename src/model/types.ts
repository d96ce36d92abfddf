import type { CallOptions } from "../head/ask.js";
import type { Device } from "../kernels/device.js";
import type { StoredType } from "../kernels/format.js";
import type { SamplingOptions } from "../sampling/options.js";
import type { ByteSource, FileSet } from "./formats/checkpoint.js";

export type { CallOptions } from "../head/ask.js";

/** What `LanguageModel.load` does, for a progress line. `done` and `total` are bytes for "weights". */
export interface Progress {
  readonly stage: "open" | "weights" | "ready";
  readonly done: number;
  readonly total: number;
}

/** Options of `LanguageModel.load`. */
export interface LoadOptions {
  /** Where to run: "auto" (default: WebAssembly when the machine has it), "wasm", "reference", or an open device. */
  readonly device?: "auto" | "wasm" | "reference" | Device;
  /** Threads of the device, a whole number from 1; default: one for each core, at most 8. */
  readonly threads?: number;
  /** Rows beyond the tokenizer's largest id: "mask" (default) or "keep" as the checkpoint has them. */
  readonly padded?: "mask" | "keep";
  /** "stored" (default): the weights in the file's own format; "float32": widened, as training needs them. */
  readonly weights?: "stored" | "float32";
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
}

/** A model's files: a Hugging Face folder as named files, or a .gguf file. */
export type ModelFiles = FileSet | ByteSource;

/** Text, to which the tokenizer adds what the model's tokenizer adds (BOS), or ids, to which nothing is added. */
export type Prompt = string | { readonly ids: ArrayLike<number> };

/** Options of `hidden`. */
export interface HiddenOptions extends CallOptions {
  /** Layers to keep: 0 enters the first block, l leaves block l, the last one has passed the final norm. Default none. */
  readonly layers?: readonly number[] | "all";
}

/** Hidden states of a prompt of T tokens, row-major [T, D]. */
export interface HiddenStates {
  readonly ids: number[];
  /** After the final norm: what the head receives. */
  readonly hidden: Float32Array;
  readonly layers: Map<number, Float32Array>;
}

export type FinishReason = "eos" | "stop" | "length" | "abort";

/** Options of `generate`. What no option says comes from the model's `generation_config.json`, then from the defaults. */
export interface GenerateOptions extends SamplingOptions {
  /** At most so many new tokens; default 128. Generation also ends where the context does. */
  readonly maxNewTokens?: number;
  /** Goes on after end tokens; default false. */
  readonly ignoreEos?: boolean;
  /** Strings that end generation; they and what follows them are not given out. Default none. */
  readonly stop?: string | readonly string[];
  /** How many of the likeliest tokens each piece lists, from 0 (default). */
  readonly alternatives?: number;
  /** Whether each piece says its token's rank; default false. */
  readonly rank?: boolean;
  /** Which of several samples of one seed this is, a whole number from 0 (default). */
  readonly sequence?: number;
  readonly signal?: AbortSignal;
}

/** Options of `generateMany`: those of `generate`, for every prompt alike. */
export interface GenerateManyOptions extends Omit<GenerateOptions, "alternatives" | "rank" | "sequence"> {
  /** Most sequences that stand side by side, each with a cache of its own; a whole number from 1, default 32. */
  readonly batchSize?: number;
}

export interface Alternative {
  readonly id: number;
  readonly token: string;
  /** Raw: the model's own, before temperature and filters. */
  readonly logProb: number;
}

/** One generated token. */
export interface Piece {
  readonly id: number;
  /** Text that became certain with this token: it may be empty, and never holds half of a character. */
  readonly text: string;
  /** Raw log-probability (nats). */
  readonly logProb: number;
  /** 1 + the number of likelier tokens. */
  readonly rank?: number;
  readonly alternatives?: readonly Alternative[];
  /** On the last piece only. */
  readonly finishReason?: FinishReason;
}

export interface GenerateTiming {
  /** Milliseconds until the first token was chosen. */
  readonly prefillMs: number;
  /** Milliseconds for the tokens after the first, and how many those were. */
  readonly decodeMs: number;
  readonly decodeTokens: number;
}

/** What `generateAll` gives. */
export interface Generated {
  readonly promptIds: number[];
  /** New tokens, the end token included. */
  readonly ids: number[];
  readonly text: string;
  readonly logProbs: number[];
  readonly finishReason: FinishReason;
  readonly timing: GenerateTiming;
}

/** What `generateMany` gives for one prompt. */
export interface GeneratedOne extends Omit<Generated, "finishReason" | "timing"> {
  /** Which prompt, counted from 0. */
  readonly index: number;
  readonly finishReason: Exclude<FinishReason, "abort">;
}

/** Options of `score`. */
export interface ScoreOptions extends CallOptions {
  /**
   * Tokens of a window, from 2 to the model's context + 1: the last one is predicted, but not read. Default: the
   * context + 1, or as many as the device's memory has room for beside the weights.
   */
  readonly window?: number;
  /** Tokens by which windows advance, from 1 to `window` - 1; default: half of the window. */
  readonly stride?: number;
}

export interface ScoredToken {
  readonly id: number;
  readonly text: string;
  /** Raw log-probability (nats) given all tokens before it in its window; null for the first token. */
  readonly logProb: number | null;
  readonly rank: number | null;
}

export interface Score {
  readonly tokens: ScoredToken[];
  /** Sum of the log-probabilities (nats). */
  readonly sum: number;
  /** Tokens predicted: all but the first. */
  readonly count: number;
  /** exp(-sum / count); null when nothing was predicted (a text of one token). */
  readonly perplexity: number | null;
  /**
   * -sum / ln 2 over the UTF-8 bytes of the predicted text: of the text that was given (of ids, of what they decode
   * to), less those of a first token that nothing predicted. Special tokens have none, nor has a space that the
   * tokenizer put before the text. Null when there is no such text, or no tokenizer.
   */
  readonly bitsPerByte: number | null;
}

/** Facts about a loaded model. */
export interface ModelInfo {
  readonly name: string;
  readonly format: "safetensors" | "gguf";
  readonly family: string;
  /** The checkpoint's own name of its architecture. */
  readonly architecture: string;
  /** Rows of the vocabulary matrix; those that tokens use; the rest. */
  readonly rows: number;
  readonly vocabSize: number;
  readonly paddedRows: number;
  /** "masked", "kept" or "none". */
  readonly padding: "masked" | "kept" | "none";
  /** Largest id of the tokenizer plus one; undefined without a tokenizer. */
  readonly tokenizerSize: number | undefined;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly maxPositions: number;
  /** Numbers in all weights, a tied matrix counted once. */
  readonly parameters: number;
  /** Of them: in vocabulary-sized weights (embedding, head, head bias); and that as a share of all, 0 to 1. */
  readonly vocabularyParameters: number;
  readonly vocabularyShare: number;
  readonly tied: boolean;
  /** How that was found, in a sentence; and where the config claims the other. */
  readonly howTied: string;
  /** The head's formula: "30 · tanh((h·Wᵀ) / 30)". */
  readonly head: string;
  /** The stored formats of matrices: how many, and the bytes they take in the file. Vectors count as "f32". */
  readonly formats: readonly {
    readonly type: StoredType;
    readonly tensors: number;
    readonly bytes: number;
  }[];
  /** Bytes the device holds now. */
  readonly memory: number;
  readonly bosId: number | undefined;
  readonly eosIds: readonly number[];
  /** One line about where it runs. */
  readonly device: string;
}
