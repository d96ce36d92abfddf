import { readFile } from "node:fs/promises";
import { Command, Option } from "commander";
import { InputError } from "../../errors.js";
import type { RunResult } from "../../train/loop/run.js";
import { settingsSchema } from "../../train/loop/schema.js";
import {
  rangeOf,
  type Setting,
  type SettingName,
  type TrainSettings,
  table,
} from "../../train/loop/settings.js";
import { systemError } from "../exit.js";
import { ProgressLine } from "../load.js";
import {
  decimal,
  type JsonFlag,
  jsonOption,
  oneOf,
  repeated,
  threadsOption,
  wholeNumber,
} from "../options.js";
import { Pace } from "../pace.js";
import { colours, fixed, json, printable } from "../render.js";

interface TrainFlags extends JsonFlag {
  readonly out?: string;
  readonly config?: string;
  readonly resume?: boolean;
  readonly schema?: boolean;
  readonly device?: "auto" | "wasm" | "reference";
  readonly threads?: number;
}

/** `lmhead train`: from a text to a language model. */
export function trainCommand(signal: AbortSignal): Command {
  const command = new Command("train")
    .description("train a model on text, or go on with a run; or fine-tune one (--init)")
    .argument("[corpus]", "a .txt or .jsonl file, or a folder of them")
    .addOption(
      new Option("-o, --out <dir>", "the run's folder: checkpoints, the best model, metrics, report"),
    )
    .addOption(new Option("--config <file>", "settings from a JSON file; flags come before them"))
    .addOption(new Option("--resume", "go on with the run in --out, exactly as if it had never stopped"))
    .addOption(new Option("--schema", "print the JSON schema of --config and end"));
  for (const [name, setting] of settings())
    for (const flag of flagsOf(name, setting)) command.addOption(flag);
  return command
    .addOption(
      new Option(
        "--device <name>",
        "auto, wasm or reference (default: auto, the fastest there is)",
      ).argParser(oneOf("--device", ["auto", "wasm", "reference"])),
    )
    .addOption(threadsOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Examples:
  lmhead train corpus.txt --out run
  lmhead train --out run --resume
  lmhead next "The cat sat on the" --model run/best`,
    )
    .action((corpus: string | undefined, flags: TrainFlags) => run(corpus, flags, signal));
}

const settings = (): [SettingName, Setting][] => Object.entries(table) as [SettingName, Setting][];

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** The flags of one setting: `--batch-size <n>`; of a flag both `--tied` and `--no-tied`. */
function flagsOf(name: SettingName, setting: Setting): Option[] {
  const flag = `--${name === "prompts" ? "prompt" : kebab(name)}`;
  const { about } = setting;
  const parsed = <T>(value: string, text: string, parse: (text: string, before?: T) => T) =>
    new Option(`${flag} <${value}>`, text).argParser<T>(parse);
  switch (setting.kind) {
    case "whole":
      return [parsed("n", about, wholeNumber(flag, setting))];
    case "number":
      return [parsed("x", `${about} (${rangeOf(setting)})`, decimal(flag, setting))];
    case "word":
      return [parsed("word", `${about}: ${setting.words.join(", ")}`, oneOf(flag, setting.words))];
    case "flag":
      return [new Option(flag, about), new Option(`--no-${kebab(name)}`, `not ${flag}`)];
    case "text":
      return [new Option(`${flag} <text>`, about)];
    case "texts":
      return [parsed("text", `${about}; may be repeated`, repeated(flag))];
  }
}

async function run(corpus: string | undefined, flags: TrainFlags, signal: AbortSignal): Promise<void> {
  if (flags.schema) {
    process.stdout.write(`${json(settingsSchema())}\n`);
    return;
  }
  if (flags.out === undefined || flags.out === "")
    throw new InputError("no folder for the run: give --out DIR");
  const given = await settingsOf(flags);
  if (flags.resume && Object.keys(given).length > 0)
    throw new InputError(
      `--resume goes on with the run's own settings; leave out ${Object.keys(given).map(kebab).join(", ")}`,
    );
  const { train } = await import("../../train/loop/train.js");
  const line = new ProgressLine();
  const pace = new Pace();
  const say = (text: string) => {
    line.clear();
    process.stderr.write(`${printable(text)}\n`);
  };
  try {
    const result = await train({
      corpus,
      out: flags.out,
      ...(!flags.resume && { settings: given }),
      resume: flags.resume,
      device: flags.device,
      threads: flags.threads,
      signal,
      onNote: say,
      onProgress: (text) => line.show(text),
      onStep: (step, steps, { loss, predicted }) => {
        line.show(pace.line(step, steps, loss, predicted, process.stderr.columns ?? 80));
      },
      onValidation: (step, loss, bitsPerByte) =>
        say(`step ${step}: validation loss ${fixed(loss, 4)}, ${fixed(bitsPerByte, 4)} bits per byte`),
      onSample: (step, prompt, text) => say(`step ${step}: ${sample(prompt, text)}`),
    });
    line.clear();
    process.stdout.write(flags.json ? `${json(result)}\n` : summary(result));
  } finally {
    line.clear();
  }
}

/** Settings by file and flags: a flag comes before the file. */
async function settingsOf(flags: TrainFlags): Promise<TrainSettings> {
  const file = flags.config === undefined ? {} : await readConfig(flags.config);
  const all = flags as unknown as Record<string, unknown>;
  const byFlag = settings().flatMap(([name]) => {
    const value = all[name === "prompts" ? "prompt" : name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { ...file, ...Object.fromEntries(byFlag) };
}

async function readConfig(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new InputError(`--config: ${systemError(error, path) ?? path}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InputError(`${path}: is not valid JSON (${(error as Error).message})`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new InputError(`${path}: expected a JSON object of settings`);
  const { $schema: _, ...settings } = value as Record<string, unknown>;
  return settings;
}

function sample(prompt: string, text: string): string {
  const colour = colours(process.stderr);
  return `${colour.dim(prompt)}${text}`.replace(/\s+/g, " ");
}

function summary({ steps, best, model, report }: RunResult): string {
  const loss = `validation loss ${fixed(best.loss, 4)} after step ${best.step}`;
  return `${steps} steps done; best model: ${model} (${loss})\nreport: ${report}\ntry: lmhead generate "…" --model ${model}\n`;
}
