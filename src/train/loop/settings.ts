import { InputError } from "../../errors.js";
import { isObject, kindOf } from "../../model/formats/files.js";
import { type PresetName, presets } from "./presets.js";
import { rangeOf, type Setting, type SettingName, table } from "./settings-table.js";

type Table = typeof table;

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

/**
 * Checks settings one by one and against each other.
 * @param what where they come from, for messages
 * @throws InputError naming the setting, what was expected and what came
 */
export function checkSettings(what: string, given: unknown): TrainSettings {
  const settings = checkEach(what, given);
  for (const [a, b] of exclusives)
    if (settings[a] !== undefined && settings[b] !== undefined)
      throw new InputError(`${what}: ${a} and ${b} were both given; expected one of them`);
  for (const { name, of, words } of dependents) {
    const chosen = settings[of] ?? common[of];
    if (settings[name] !== undefined && !words.includes(chosen))
      throw new InputError(
        `${what}: ${name} is for ${of} ${words.join(", ")}, and would do nothing for ${chosen}; leave it out`,
      );
  }
  if (settings.freeze === "body" && settings.init === undefined)
    throw new InputError(`${what}: freeze: a body of random weights is nothing to keep; give init too`);
  return settings;
}

/** Fills in the preset's values and the defaults. @throws InputError as `checkSettings` */
export function fillSettings(what: string, given: unknown): FilledSettings {
  const settings = checkSettings(what, given);
  const preset: PresetName = settings.preset ?? "tiny";
  return { preset, ...common, ...presets[preset], ...settings };
}

/** Settings that were filled in before, and written down. @throws InputError when one is missing or damaged */
export function checkFilled(what: string, given: unknown): FilledSettings {
  const settings = checkEach(what, given);
  for (const name of Object.keys({ preset: "", ...common, ...presets.tiny }))
    if (settings[name as SettingName] === undefined) throw new InputError(`${what}: ${name} is missing`);
  return settings as FilledSettings;
}

/** Checks settings one by one: each may still not go with another. @throws InputError as `checkSettings` */
export function checkEach(what: string, given: unknown): TrainSettings {
  if (!isObject(given)) throw new InputError(`${what}: expected an object of settings, got ${kindOf(given)}`);
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(table, name))
      throw new InputError(
        `${what}: unknown setting "${name}"; the settings are ${Object.keys(table).join(", ")}`,
      );
    checkOne(`${what}: ${name}`, table[name as SettingName], value);
  }
  return given as TrainSettings;
}

function checkOne(what: string, setting: Setting, value: unknown): void {
  const refuse = (expected: string): never => {
    const got =
      typeof value === "string" ? JSON.stringify(value) : Object(value) === value ? kindOf(value) : value;
    throw new InputError(`${what}: expected ${expected}, got ${String(got)}`);
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
    case "path":
      if (typeof value !== "string" || value === "") refuse("a text");
      break;
    case "texts":
      if (!Array.isArray(value) || !value.every((text) => typeof text === "string"))
        refuse("a list of texts");
  }
}
