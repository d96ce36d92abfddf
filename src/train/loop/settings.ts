import { InputError } from "../../errors.js";
import { isObject, kindOf } from "../../model/formats/files.js";
import { type PresetName, presets } from "./presets.js";

/** What one setting may be. */
type Kind =
  | {
      readonly kind: "whole" | "number";
      readonly min?: number;
      readonly max?: number;
      readonly above?: boolean;
    }
  | { readonly kind: "word"; readonly words: readonly string[] }
  | { readonly kind: "text" | "texts" | "flag" };

/** One setting: the flag `--kebab-case` of `lmhead train`, and the field of its JSON file. */
export type Setting = Kind & { readonly about: string };

/**
 * Every setting of a training run. The command's flags, the JSON file's schema and the checks of both are made of this
 * table; defaults that are the same for all presets stand in `common`, those of a preset in `presets`.
 */
export const table = {
  preset: { kind: "word", words: ["tiny", "small"], about: "sizes and steps to begin from (default: tiny)" },
  name: { kind: "text", about: "the run's name in its report (default: the folder's)" },
  seed: { kind: "whole", min: 0, about: "seed of the weights, of the order of the text and of dropout" },

  split: {
    kind: "word",
    words: ["file", "lines", "blank-lines"],
    about: "where a .txt file's documents end: with the file, each line, or at blank lines",
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
    max: 1,
    above: true,
    about: "share of the documents that is kept from training, to validate",
  },
  validationCorpus: { kind: "text", about: "a corpus of its own to validate on, instead of a share" },

  tokenizer: { kind: "text", about: "folder of a tokenizer.json to use, instead of training one" },
  vocabSize: { kind: "whole", min: 257, max: 2 ** 24, about: "V: tokens of the tokenizer that is trained" },

  init: { kind: "text", about: "a Hugging Face folder to go on from, with its tokenizer (fine-tuning)" },
  freeze: { kind: "word", words: ["nothing", "body"], about: "body: the head alone learns" },
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
  tied: { kind: "flag", about: "the head's matrix is the embedding's" },

  contextLength: {
    kind: "whole",
    min: 1,
    about: "T: tokens of a training sequence, and the model's context",
  },
  batchSize: { kind: "whole", min: 1, about: "sequences of a batch" },
  accumulate: { kind: "whole", min: 1, about: "batches of a step (gradient accumulation)" },
  recompute: {
    kind: "flag",
    about: "layers run again on the way back: less memory, more time, the same bits",
  },
  steps: { kind: "whole", min: 1, about: "steps of the run" },
  epochs: { kind: "number", min: 0, above: true, about: "times over the text, instead of steps" },

  optimizer: { kind: "word", words: ["adamw", "muon", "lion", "sgd"], about: "the optimizer" },
  learningRate: { kind: "number", min: 0, above: true, about: "the highest learning rate" },
  schedule: {
    kind: "word",
    words: ["cosine", "linear", "wsd", "constant"],
    about: "how the learning rate falls after its warm-up",
  },
  warmupSteps: { kind: "whole", min: 0, about: "steps up to it (default: a twentieth of all, at most 200)" },
  decaySteps: { kind: "whole", min: 1, about: "of wsd: steps down at the end (default: a fifth of all)" },
  finalFraction: {
    kind: "number",
    min: 0,
    max: 1,
    about: "the last learning rate as a share of the highest",
  },
  weightDecay: { kind: "number", min: 0, about: "decoupled weight decay of matrices" },
  beta1: { kind: "number", min: 0, max: 0.999999, about: "of adamw, muon's adamw and lion" },
  beta2: { kind: "number", min: 0, max: 0.999999, about: "of adamw, muon's adamw and lion" },
  momentum: { kind: "number", min: 0, max: 0.999999, about: "of sgd and muon" },
  maxNorm: { kind: "number", min: 0, above: true, about: "the gradient's global norm is clipped to it" },
  labelSmoothing: { kind: "number", min: 0, max: 1, about: "share of each target that all tokens get" },
  dropout: {
    kind: "number",
    min: 0,
    max: 0.999999,
    about: "rate of numbers dropped after the embedding and each sublayer",
  },
  zLoss: { kind: "number", min: 0, about: "times the squared log-sum-exp, added to the loss" },

  validateEvery: { kind: "whole", min: 0, about: "steps between validations; 0: at the end only" },
  validationBatches: { kind: "whole", min: 0, about: "batches of a validation but the last; 0: all" },
  sampleEvery: { kind: "whole", min: 0, about: "steps between samples; 0: at the end only" },
  prompts: { kind: "texts", about: "what samples go on from (default: nothing)" },
  sampleTokens: { kind: "whole", min: 1, about: "tokens of a sample" },
  checkpointEvery: { kind: "whole", min: 0, about: "steps between checkpoints; 0: at the end only" },
  keep: { kind: "whole", min: 1, about: "the newest checkpoints that are kept, beside the best" },
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

/** Settings that no checkpoint given by `init` lets one choose. */
const OF_A_NEW_MODEL = [
  "tokenizer",
  "vocabSize",
  "family",
  "hiddenSize",
  "layers",
  "heads",
  "kvHeads",
  "innerSize",
  "tied",
] as const satisfies readonly SettingName[];

/**
 * Checks settings one by one and against each other.
 * @param what where they come from, for messages
 * @throws InputError naming the setting, what was expected and what came
 */
export function checkSettings(what: string, given: unknown): TrainSettings {
  if (!isObject(given)) throw new InputError(`${what}: expected an object of settings, got ${kindOf(given)}`);
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(table, name))
      throw new InputError(
        `${what}: unknown setting "${name}"; the settings are ${Object.keys(table).join(", ")}`,
      );
    checkOne(`${what}: ${name}`, table[name as SettingName], value);
  }
  const settings = given as TrainSettings;
  exclusive(what, settings, "steps", "epochs");
  exclusive(what, settings, "split", "separator");
  exclusive(what, settings, "validation", "validationCorpus");
  exclusive(what, settings, "tokenizer", "vocabSize");
  if (settings.init !== undefined) for (const name of OF_A_NEW_MODEL) exclusive(what, settings, "init", name);
  if (settings.freeze === "body" && settings.init === undefined)
    throw new InputError(`${what}: freeze: a body of random weights is nothing to keep; give init too`);
  return settings;
}

/** Fills in the preset's values and the defaults. @throws InputError as `checkSettings` */
export function fillSettings(what: string, given: unknown): FilledSettings {
  const settings = checkSettings(what, given);
  const preset: PresetName = settings.preset ?? "tiny";
  const { steps, ...sizes } = presets[preset];
  return {
    preset,
    ...common,
    ...sizes,
    steps,
    ...settings,
  };
}

const common = {
  seed: 0,
  split: "file",
  field: "text",
  documents: "separate",
  validation: 0.05,
  freeze: "nothing",
  family: "llama",
  tied: true,
  accumulate: 1,
  recompute: false,
  optimizer: "adamw",
  schedule: "cosine",
  finalFraction: 0.1,
  weightDecay: 0.1,
  beta1: 0.9,
  beta2: 0.95,
  momentum: 0.95,
  maxNorm: 1,
  labelSmoothing: 0,
  dropout: 0,
  zLoss: 0,
  validationBatches: 20,
  prompts: [],
  sampleTokens: 60,
  keep: 2,
} as const satisfies TrainSettings;

function exclusive(what: string, settings: TrainSettings, a: SettingName, b: SettingName): void {
  if (settings[a] !== undefined && settings[b] !== undefined)
    throw new InputError(`${what}: ${a} and ${b} were both given; expected one of them`);
}

function checkOne(what: string, setting: Setting, value: unknown): void {
  const refuse = (expected: string): never => {
    throw new InputError(`${what}: expected ${expected}, got ${JSON.stringify(value) ?? value}`);
  };
  switch (setting.kind) {
    case "whole":
    case "number": {
      const { min = -Infinity, max = Infinity, above = false } = setting;
      const fits = setting.kind === "whole" ? Number.isSafeInteger(value) : Number.isFinite(value);
      const number = value as number;
      if (!fits || number < min || number > max || (above && number === min))
        refuse(`a ${setting.kind === "whole" ? "whole number" : "number"} ${rangeOf(setting)}`);
      break;
    }
    case "word":
      if (!setting.words.includes(value as string)) refuse(`one of ${setting.words.join(", ")}`);
      break;
    case "flag":
      if (typeof value !== "boolean") refuse("true or false");
      break;
    case "text":
      if (typeof value !== "string" || value === "") refuse("a text");
      break;
    case "texts":
      if (!Array.isArray(value) || !value.every((text) => typeof text === "string"))
        refuse("a list of texts");
  }
}

/** "from 1", "above 0 and at most 1". */
export function rangeOf({ min, max, above }: Extract<Setting, { kind: "whole" | "number" }>): string {
  const low = min === undefined ? undefined : above ? `above ${min}` : `from ${min}`;
  const high = max === undefined ? undefined : above ? `and at most ${max}` : `to ${max}`;
  return [low, high].filter((part) => part !== undefined).join(" ");
}
