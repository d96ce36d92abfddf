import { readFile } from "node:fs/promises";
import { isAbsolute, relative } from "node:path";
import { Command, Option } from "commander";
import { AbortError, InputError } from "../../errors.js";
import { parseObject } from "../../model/formats/files.js";
import type { RunResult } from "../../train/loop/run.js";
import { settingsSchema } from "../../train/loop/schema.js";
import {
  checkEach,
  checkSettings,
  defaultOf,
  dependents,
  exclusives,
  type TrainSettings,
} from "../../train/loop/settings.js";
import { rangeOf, type Setting, type SettingName, table } from "../../train/loop/settings-table.js";
import { duration } from "../../train/report/progress.js";
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

const flagOf = (name: string): string => `--${name === "prompts" ? "prompt" : kebab(name)}`;

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** The flags of one setting: `--batch-size <n>`; of a flag both `--tied` and `--no-tied`. */
function flagsOf(name: SettingName, setting: Setting): Option[] {
  const flag = flagOf(name);
  const byDefault = defaultOf(name);
  const about = byDefault === undefined ? setting.about : `${setting.about} (default: ${byDefault})`;
  const parsed = <T>(value: string, text: string, parse: (text: string, before?: T) => T) =>
    new Option(`${flag} <${value}>`, text).argParser<T>(parse);
  switch (setting.kind) {
    case "whole":
      return [parsed("n", about, wholeNumber(flag, setting))];
    case "number":
      return [parsed("x", `${about}, ${rangeOf(setting)}`, decimal(flag, setting))];
    case "word":
      return [parsed("word", `${setting.words.join(", ")}: ${about}`, oneOf(flag, setting.words))];
    case "flag":
      return [new Option(flag, about), new Option(`--no-${kebab(name)}`, `not ${flag}`)];
    case "text":
    case "path":
      return [new Option(`${flag} <${setting.kind}>`, about)];
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
      `--resume goes on with the run's own settings; leave out ${Object.keys(given).map(flagOf).join(", ")}`,
    );
  const { train } = await import("../../train/loop/train.js");
  const start = performance.now();
  const screen = new Screen(signal);
  const pace = new Pace();
  try {
    const result = await train({
      corpus,
      out: flags.out,
      ...(!flags.resume && { settings: given }),
      resume: flags.resume,
      device: flags.device,
      threads: flags.threads,
      signal,
      onNote: (text) => screen.say(printable(text)),
      onProgress: (text) => screen.show(text),
      onStep: (step, steps, { loss, predicted }) =>
        screen.show(pace.line(step, steps, loss, predicted, process.stderr.columns || 80)),
      onValidation: (step, loss, bitsPerByte) =>
        screen.say(`step ${step}: validation loss ${fixed(loss, 4)}, ${fixed(bitsPerByte, 4)} bits per byte`),
      onSample: (step, prompt, text) => screen.say(`step ${step} writes: ${sample(prompt, text)}`),
      onStopped: (step, checkpoint) => screen.stopped(step, checkpoint),
    });
    screen.clear();
    const took = flags.resume ? "" : ` in ${duration((performance.now() - start) / 1000)}`;
    process.stdout.write(flags.json ? `${json(result)}\n` : summary(result, took));
  } catch (error) {
    // An interrupted run has said its one line; main gives the exit code.
    if (!(error instanceof AbortError && screen.hasStopped)) throw error;
  } finally {
    screen.clear();
  }
}

/** How often the progress line changes at most, in milliseconds. */
const EVERY_MS = 50;

/** What a person sees of a run, on standard error. */
class Screen {
  /** Whether the run has said that it was stopped. */
  hasStopped = false;
  private readonly line = new ProgressLine();
  private shownAt = -Infinity;

  constructor(signal: AbortSignal) {
    signal.addEventListener("abort", () => this.line.show("stopping: saving (Ctrl-C again: at once)"));
  }

  show(text: string): void {
    const now = performance.now();
    if (now - this.shownAt < EVERY_MS) return;
    this.shownAt = now;
    this.line.show(text);
  }

  /** A line that stays. @param text without control characters */
  say(text: string): void {
    this.line.clear();
    process.stderr.write(`${text}\n`);
  }

  stopped(step: number, checkpoint: string | undefined): void {
    this.hasStopped = true;
    this.say(
      checkpoint === undefined
        ? "stopped before the first step; nothing is saved, --resume begins anew"
        : `stopped after step ${step}; saved ${printable(checkpoint)}; go on with --resume`,
    );
  }

  clear(): void {
    this.line.clear();
  }
}

/** Settings by file and flags: a flag comes before the file, and before what in it does not go with the flag. */
async function settingsOf(flags: TrainFlags): Promise<TrainSettings> {
  const all = flags as unknown as Record<string, unknown>;
  const byFlag = Object.fromEntries(
    settings().flatMap(([name]) => {
      const value = all[name === "prompts" ? "prompt" : name];
      return value === undefined ? [] : [[name, value] as const];
    }),
  );
  const file: Record<string, unknown> = flags.config === undefined ? {} : await readConfig(flags.config);
  for (const [a, b] of exclusives) {
    if (a in byFlag && !(b in byFlag)) delete file[b];
    if (b in byFlag && !(a in byFlag)) delete file[a];
  }
  for (const { name, of, words } of dependents)
    if (of in byFlag && !words.includes(byFlag[of] as string)) delete file[name];
  const both = { ...file, ...byFlag };
  checkSettings(flags.config ?? "settings", both);
  return both;
}

/** @throws InputError when the file can't be read, or a setting of it is not as it should be */
async function readConfig(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new InputError(`--config: ${systemError(error, path) ?? path}`);
  }
  const { $schema: _, ...settings } = parseObject(path, text);
  checkEach(path, settings);
  return settings;
}

function sample(prompt: string, text: string): string {
  const plain = (part: string) => printable(part.replace(/\s+/g, " "));
  return `${colours(process.stderr).dim(plain(prompt))}${plain(text)}`;
}

function summary({ steps, best, model, report }: RunResult, took: string): string {
  const loss = `validation loss ${fixed(best.loss, 4)} after step ${best.step}`;
  const here = (path: string) => {
    const near = relative("", path);
    const short = near.startsWith("..") || isAbsolute(near) ? path : near;
    return /^[\w./-]+$/.test(short) ? short : JSON.stringify(short);
  };
  return `${steps} ${steps === 1 ? "step" : "steps"} done${took}; best model: ${here(model)} (${loss})
report: ${here(report)}
try: lmhead generate "Once upon a time" --model ${here(model)}
`;
}
