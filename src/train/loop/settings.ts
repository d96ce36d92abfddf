import { presets } from "./presets.js";

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
  seed: { kind: "whole", min: 0, about: "of the weights, the split, the order of the text and the samples" },

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
  vocabSize: { kind: "whole", min: 257, max: 2 ** 24, about: "V: tokens of the tokenizer that is trained" },

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

type Table = typeof table;
export type SettingName = keyof Table;

type ValueOf<S> = S extends { kind: "whole" | "number" }
  ? number
  : S extends { kind: "word"; words: readonly (infer W)[] }
    ? W
    : S extends { kind: "flag" }
      ? boolean
      : S extends { kind: "texts" }
        ? readonly string[]
        : string;

/** Settings as a person gives them. */
export type TrainSettings = { readonly [K in SettingName]?: ValueOf<Table[K]> };

/** Settings without a default: absent means something of its own. */
type Optional =
  | "name"
  | "separator"
  | "validationCorpus"
  | "tokenizer"
  | "init"
  | "kvHeads"
  | "innerSize"
  | "epochs"
  | "warmupSteps"
  | "decaySteps";

/** Settings with every default filled in. */
export type FilledSettings = { readonly [K in Exclude<SettingName, Optional>]: ValueOf<Table[K]> } & {
  readonly [K in Optional]?: ValueOf<Table[K]>;
};

/** Settings of which a run takes one or the other. `init` brings all that makes a model. */
export const exclusives: readonly (readonly [SettingName, SettingName])[] = [
  ["steps", "epochs"],
  ["split", "separator"],
  ["validation", "validationCorpus"],
  ["tokenizer", "vocabSize"],
  ["init", "tokenizer"],
  ["init", "vocabSize"],
  ["init", "family"],
  ["init", "hiddenSize"],
  ["init", "layers"],
  ["init", "heads"],
  ["init", "kvHeads"],
  ["init", "innerSize"],
  ["init", "tied"],
];

/** Settings that mean something only where another is one of some words. */
export const dependents: readonly {
  readonly name: SettingName;
  readonly of: "schedule" | "optimizer";
  readonly words: readonly string[];
}[] = [
  { name: "decaySteps", of: "schedule", words: ["wsd"] },
  { name: "finalFraction", of: "schedule", words: ["cosine", "linear", "wsd"] },
  { name: "momentum", of: "optimizer", words: ["sgd", "muon"] },
  { name: "beta1", of: "optimizer", words: ["adamw", "muon", "lion"] },
  { name: "beta2", of: "optimizer", words: ["adamw", "muon", "lion"] },
];

/** A setting's default in words: "16", "tiny 1000, small 5000"; undefined where `about` says what absence means. */
export function defaultOf(name: SettingName): string | undefined {
  const text = (value: unknown) => (typeof value === "boolean" ? (value ? "yes" : "no") : String(value));
  if (name in common) {
    const value = common[name as keyof typeof common];
    return Array.isArray(value) ? undefined : text(value);
  }
  const of = Object.entries(presets).flatMap(([preset, values]) =>
    name in values ? [`${preset} ${text(values[name as keyof typeof values])}`] : [],
  );
  const distinct = new Set(of.map((one) => one.slice(one.indexOf(" ") + 1)));
  return distinct.size === 1 ? [...distinct][0] : of.length > 0 ? of.join(", ") : undefined;
}

/** Defaults that are the same for all presets. */
export const common = {
  seed: 0,
  split: "file",
  field: "text",
  documents: "separate",
  validation: 0.05,
  freeze: "nothing",
  family: "llama",
  tied: true,
  accumulate: 1,
  optimizer: "adamw",
  schedule: "cosine",
  finalFraction: 0.1,
  weightDecay: 0.1,
  beta1: 0.9,
  beta2: 0.95,
  momentum: 0.95,
  maxNorm: 1,
  labelSmoothing: 0,
  zLoss: 0,
  validationBatches: 20,
  prompts: [],
  sampleTokens: 60,
  keep: 2,
} as const satisfies TrainSettings;

/** "from 1", "above 0 and at most 1". */
export function rangeOf({ min, max, above }: Extract<Setting, { kind: "whole" | "number" }>): string {
  const low = min === undefined ? undefined : above ? `above ${min}` : `from ${min}`;
  const high = max === undefined ? undefined : above ? `and at most ${max}` : `to ${max}`;
  return [low, high].filter((part) => part !== undefined).join(" ");
}
