import { type Command, Option } from "commander";
import { InputError } from "../errors.js";

/** Where a number may lie. */
export interface Range {
  readonly min?: number;
  readonly max?: number;
  /** The minimum itself is not allowed. */
  readonly above?: boolean;
  /** What to do instead, at the end of the message. */
  readonly hint?: string;
}

function describeRange({ min, max, above }: Range): string {
  if (min !== undefined && max !== undefined)
    return above ? `above ${min} and at most ${max}` : `from ${min} to ${max}`;
  if (min !== undefined) return above ? `above ${min}` : `${min} or more`;
  return max === undefined ? "" : `at most ${max}`;
}

function refuse(flag: string, expected: string, got: string, hint?: string): never {
  throw new InputError(`${flag}: expected ${expected}, got "${got}"${hint ? `; ${hint}` : ""}`);
}

function checkRange(flag: string, kind: string, value: number, text: string, range: Range): number {
  const { min = -Infinity, max = Infinity, above = false } = range;
  if (!(value >= min && value <= max) || (above && value === min))
    refuse(flag, `${kind} ${describeRange(range)}`.trim(), text, range.hint);
  return value;
}

/** A parser of whole numbers, strict: "5x", "1e3", "0x10" and "" are refused. */
export function wholeNumber(flag: string, range: Range = {}): (text: string) => number {
  return (text) => {
    if (!/^[+-]?\d+$/.test(text))
      refuse(flag, `a whole number ${describeRange(range)}`.trim(), text, range.hint);
    const limited = { ...range, max: Math.min(range.max ?? Infinity, Number.MAX_SAFE_INTEGER) };
    return checkRange(flag, "a whole number", Number(text), text, limited);
  };
}

/** A parser of decimal numbers; "Infinity" and "NaN" are refused. */
export function decimal(flag: string, range: Range = {}): (text: string) => number {
  return (text) => {
    if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) || !Number.isFinite(Number(text)))
      refuse(flag, `a number ${describeRange(range)}`.trim(), text, range.hint);
    return checkRange(flag, "a number", Number(text), text, range);
  };
}

/** A parser of one of a few words. */
export function oneOf<T extends string>(flag: string, words: readonly T[]): (text: string) => T {
  return (text) => {
    const found = words.find((word) => word === text);
    return found ?? refuse(flag, `one of ${words.join(", ")}`, text);
  };
}

/** Ids between spaces or commas: "1 2 3", "[1, 2, 3]". */
export function idList(flag: string): (text: string) => number[] {
  return (text) => {
    const parts = text
      .replace(/^\s*\[|\]\s*$/g, "")
      .split(/[\s,]+/)
      .filter((part) => part !== "");
    if (parts.length === 0) throw new InputError(`${flag}: expected ids such as "1 2 3", got nothing`);
    return parts.map(wholeNumber(flag, { min: 0, max: 2 ** 31 - 1 }));
  };
}

/** Collects an option that may be repeated; an empty text is refused. */
export function repeated(flag: string): (text: string, before: string[] | undefined) => string[] {
  return (text, before) => {
    if (text === "") throw new InputError(`${flag}: expected a text, got an empty one`);
    return [...(before ?? []), text];
  };
}

/** Options that say which model, and where it runs. */
export interface ModelFlags {
  readonly model?: string;
  readonly device?: "auto" | "wasm" | "reference";
  readonly threads?: number;
  readonly padded?: "mask" | "keep";
}

export interface JsonFlag {
  readonly json?: boolean;
}

/** The options of a sampling chain; a field is there when its flag was given. */
export interface SamplingFlags {
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly suppressTokens?: number[];
}

export interface SeedFlag {
  readonly seed?: number;
}

const option = <T>(flags: string, description: string, parse: (text: string, before?: T) => T): Option =>
  new Option(flags, description).argParser<T>(parse);

export const threadsOption = (): Option =>
  option(
    "--threads <n>",
    "threads (default: one for each core, at most 8)",
    wholeNumber("--threads", { min: 1, max: 64 }),
  );

export const modelOption = (): Option =>
  new Option(
    "-m, --model <path>",
    "the model: a Hugging Face folder or a .gguf file (default: the embedded tiny-gpt)",
  );

/** Adds --model, --device, --threads and --padded. */
export function addModelOptions(command: Command): Command {
  return command
    .addOption(modelOption())
    .addOption(
      option(
        "--device <name>",
        "auto, wasm or reference (default: auto, the fastest there is)",
        oneOf("--device", ["auto", "wasm", "reference"]),
      ),
    )
    .addOption(threadsOption())
    .addOption(
      option(
        "--padded <how>",
        "rows of the vocabulary above the tokenizer's largest id: mask or keep (default: mask)",
        oneOf("--padded", ["mask", "keep"]),
      ),
    );
}

export const idsOption = (): Option =>
  option("--ids <ids>", 'the prompt as token ids, "1 2 3", with nothing added', idList("--ids"));

export const jsonOption = (): Option => new Option("--json", "print JSON instead");

/** Adds --temperature, --top-k, --top-p, --min-p, --repetition-penalty and --suppress-tokens. */
export function addSamplingOptions(command: Command): Command {
  return command
    .addOption(
      option(
        "--temperature <t>",
        "divide the logits by T; 1 leaves them",
        decimal("--temperature", {
          min: 0,
          above: true,
          hint: "for the likeliest token every time use generate --greedy",
        }),
      ),
    )
    .addOption(
      option("--top-k <k>", "keep the K likeliest tokens; 0 keeps all", wholeNumber("--top-k", { min: 0 })),
    )
    .addOption(
      option(
        "--top-p <p>",
        "keep the fewest likeliest tokens whose probabilities reach P; 1 keeps all",
        decimal("--top-p", { min: 0, max: 1, above: true }),
      ),
    )
    .addOption(
      option(
        "--min-p <p>",
        "keep tokens at least P times as likely as the likeliest; 0 keeps all",
        decimal("--min-p", { min: 0, max: 1 }),
      ),
    )
    .addOption(
      option(
        "--repetition-penalty <r>",
        "divide the positive logits of tokens seen before by R, multiply the negative; 1 leaves them",
        decimal("--repetition-penalty", { min: 0, above: true }),
      ),
    )
    .addOption(
      option(
        "--suppress-tokens <ids>",
        'token ids that are never chosen, "1 2 3"',
        idList("--suppress-tokens"),
      ),
    );
}

export const seedOption = (): Option =>
  option(
    "--seed <n>",
    "the seed of the random choice: the same seed, the same text (default: 0)",
    wholeNumber("--seed", { min: 0 }),
  );

/** The sampling flags that were given, and only those. */
export function samplingOf(flags: SamplingFlags): SamplingFlags {
  const { temperature, topK, topP, minP, repetitionPenalty, suppressTokens } = flags;
  const given = { temperature, topK, topP, minP, repetitionPenalty, suppressTokens };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** What a prompt may be: a text, or ids that are taken as they are. */
export type Prompt = string | { readonly ids: number[] };

/** The prompt of a command that takes a text or --ids: exactly one of the two, and not empty. */
export function promptOf(text: string | undefined, ids: number[] | undefined, example: string): Prompt {
  if (text !== undefined && ids !== undefined)
    throw new InputError("a text and --ids were both given: expected one of them");
  if (ids !== undefined) return { ids };
  if (text === undefined)
    throw new InputError(`no prompt: expected a text in quotes or --ids, as in: ${example}`);
  if (text === "") throw new InputError("the prompt is empty: expected at least one character");
  return text;
}
