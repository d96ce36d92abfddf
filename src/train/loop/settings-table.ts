/** What one setting may be. */
type Kind =
  | {
      readonly kind: "whole" | "number";
      readonly min?: number;
      readonly max?: number;
      readonly above?: boolean;
    }
  | { readonly kind: "word"; readonly words: readonly string[] }
  | { readonly kind: "text" | "texts" | "path" | "flag" };

/** One setting: the flag `--kebab-case` of `lmhead train`, and the field of its JSON file. */
export type Setting = Kind & { readonly about: string };

/**
 * Every setting of a training run. The command's flags, the JSON file's schema and the checks of both are made of this
 * table; defaults that are the same for all presets stand in `common`, those of a preset in `presets`.
 */
export const table = {
  preset: { kind: "word", words: ["tiny", "small"], about: "sizes and steps to begin from (default: tiny)" },
  name: { kind: "text", about: "the run's name in its report (default: the folder's)" },
  seed: {
    kind: "whole",
    min: 0,
    about: "of the weights, the split, the order of the text, dropout and the samples",
  },

  split: {
    kind: "word",
    words: ["file", "lines", "blank-lines"],
    about: "where a .txt file's documents end",
  },
  separator: { kind: "text", about: "a text that ends documents of .txt files, instead of split" },
  field: { kind: "text", about: "the field of each .jsonl line that holds the text" },
  documents: {
    kind: "word",
    words: ["separate", "joined"],
    about: "whether attention stays within a document",
  },
  validation: {
    kind: "number",
    min: 0,
    max: 0.99,
    above: true,
    about: "share of the documents (of a single one: its end) that is kept from training, to validate",
  },
  validationCorpus: { kind: "path", about: "a corpus of its own to validate on, instead of a share" },

  tokenizer: { kind: "path", about: "folder of a tokenizer.json to use, instead of training one" },
  vocabSize: {
    kind: "whole",
    min: 257,
    max: 2 ** 24,
    about: "V: tokens of the tokenizer that is trained (by default fewer where the text supports no more)",
  },

  init: { kind: "path", about: "a Hugging Face folder to go on from, with its tokenizer (fine-tuning)" },
  freeze: {
    kind: "word",
    words: ["nothing", "body"],
    about: "what stays as it is; body: the head alone learns",
  },
  family: {
    kind: "word",
    words: ["gpt2", "llama", "qwen2", "gemma2", "gpt_neox", "phi"],
    about: "the transformer's family",
  },
  hiddenSize: { kind: "whole", min: 1, about: "D: length of a hidden state" },
  layers: { kind: "whole", min: 1, about: "layers of the body" },
  heads: { kind: "whole", min: 1, about: "query heads of each layer" },
  kvHeads: { kind: "whole", min: 1, about: "key and value heads (default: as many as query heads)" },
  innerSize: { kind: "whole", min: 1, about: "inner size of the MLP (default: the family's custom)" },
  tied: { kind: "flag", about: "whether the head's matrix is the embedding's" },

  contextLength: {
    kind: "whole",
    min: 1,
    about: "T: tokens of a training sequence, and the model's context",
  },
  batchSize: { kind: "whole", min: 1, about: "sequences of a batch" },
  accumulate: { kind: "whole", min: 1, max: 65536, about: "batches of a step (gradient accumulation)" },
  recompute: {
    kind: "flag",
    about: "whether layers run again on the way back: less memory, more time, the same bits",
  },
  steps: { kind: "whole", min: 1, about: "steps of the run" },
  epochs: { kind: "number", min: 0, above: true, about: "times over the text, instead of steps" },

  optimizer: { kind: "word", words: ["adamw", "muon", "lion", "sgd"], about: "the optimizer" },
  learningRate: { kind: "number", min: 0, max: 1e10, above: true, about: "the highest learning rate" },
  schedule: {
    kind: "word",
    words: ["cosine", "linear", "wsd", "constant"],
    about: "how the learning rate falls after its warm-up",
  },
  warmupSteps: {
    kind: "whole",
    min: 0,
    about: "steps up to the highest learning rate (default: a twentieth of all, at most 200)",
  },
  decaySteps: { kind: "whole", min: 1, about: "of wsd: steps down at the end (default: a fifth of all)" },
  finalFraction: {
    kind: "number",
    min: 0,
    max: 1,
    about: "the last learning rate as a share of the highest",
  },
  weightDecay: { kind: "number", min: 0, max: 1000, about: "decay of matrices: decoupled; of sgd, L2" },
  beta1: { kind: "number", min: 0, max: 0.999999, about: "of adamw, muon's adamw and lion" },
  beta2: { kind: "number", min: 0, max: 0.999999, about: "of adamw, muon's adamw and lion" },
  momentum: { kind: "number", min: 0, max: 0.999999, about: "of sgd and muon" },
  maxNorm: { kind: "number", min: 0, above: true, about: "the gradient's global norm is clipped to this" },
  labelSmoothing: { kind: "number", min: 0, max: 1, about: "share of each target that all tokens get" },
  dropout: {
    kind: "number",
    min: 0,
    max: 0.999999,
    about: "rate of numbers dropped after the embedding and each sublayer",
  },
  zLoss: { kind: "number", min: 0, max: 1000, about: "times the squared log-sum-exp, added to the loss" },

  validateEvery: { kind: "whole", min: 0, about: "steps between validations; 0: at the end only" },
  validationBatches: {
    kind: "whole",
    min: 0,
    about: "batches of a validation, spread over its text; 0: all",
  },
  sampleEvery: { kind: "whole", min: 0, about: "steps between samples; 0: at the end only" },
  prompts: { kind: "texts", about: "what samples go on from (default: nothing)" },
  sampleTokens: { kind: "whole", min: 1, max: 65536, about: "tokens of a sample" },
  checkpointEvery: { kind: "whole", min: 0, about: "steps between checkpoints; 0: at the end only" },
  keep: { kind: "whole", min: 1, about: "how many of the newest checkpoints stay" },
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof table;

/** "from 1", "above 0 and at most 1". */
export function rangeOf({ min, max, above }: Extract<Setting, { kind: "whole" | "number" }>): string {
  const low = min === undefined ? undefined : above ? `above ${min}` : `from ${min}`;
  const high = max === undefined ? undefined : above ? `and at most ${max}` : `to ${max}`;
  return [low, high].filter((part) => part !== undefined).join(" ");
}
