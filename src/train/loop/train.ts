import { mkdir, readdir, rmdir } from "node:fs/promises";
import { basename, isAbsolute, join, relative, resolve, sep } from "node:path";
import { checkFields, InputError } from "../../errors.js";
import type { Device } from "../../kernels/device.js";
import { prettyJson } from "../../model/formats/folder.js";
import { LanguageModel } from "../../model/language-model.js";
import { placeModel } from "../../model/load.js";
import { grouped } from "../report/format.js";
import { Trainer } from "../trainer/trainer.js";
import { type Found, newestCheckpoint, readOptimizer } from "./checkpoints.js";
import { openData, openTexts, type TrainingData } from "./data.js";
import { asideOf, IDS, isReplaced, METRICS, PLAN, withoutAside } from "./layout.js";
import { lockFolder } from "./lock.js";
import { optimizerOf } from "./optimizer.js";
import { metricsSize, Run, type RunEvents, type RunResult } from "./run.js";
import { diskError, readObject, replaceFile, tidyFolder } from "./run-files.js";
import { scheduleOf, stepsOf } from "./schedule.js";
import { checkFilled, type FilledSettings, fillSettings, type TrainSettings } from "./settings.js";
import { type SettingName, table } from "./settings-table.js";
import { openTrainable } from "./trainable.js";

/** Options of `train`. */
export interface TrainOptions extends RunEvents {
  /** A .txt or .jsonl file, or a folder of them. With `resume` the run's own, or where that text stands now. */
  readonly corpus?: string;
  /** The run's folder; made when it is not there. */
  readonly out: string;
  /** As `lmhead train --config` reads them; `settingsSchema()` lists them. Paths are the process's. Default: the preset tiny. */
  readonly settings?: TrainSettings;
  /** Goes on with the run in `out`, with its own settings. Default false. */
  readonly resume?: boolean;
  /** Where to run; the bits of a run on "wasm" are the same for any number of threads. Default "auto". */
  readonly device?: "auto" | "wasm" | "reference" | Device;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** 2: documents are kept to validate by their text, not by their place. */
const VERSION = 2;

/** What a run's folder says about the run. */
interface Plan {
  readonly corpus: string;
  readonly settings: FilledSettings;
  /** Of the texts; absent until they have been read once. */
  readonly dataHash?: string;
}

/**
 * Trains a language model from text, or goes on with a run: `lmhead train` as a function, for Node. The folder then holds
 * checkpoints (Hugging Face folders with the optimizer's state), the best model in `best`, `metrics.jsonl` and
 * `report.html`. A run that was stopped at any moment and resumed on the same device ends with the same weights and
 * metrics, to the bit, as one that was not.
 * @throws InputError for bad settings or text, a folder that holds another run or is in use, a loss that is not finite, a
 *   full disk; AbortError after `signal`, with a checkpoint of the last finished step
 */
export async function train(options: TrainOptions): Promise<RunResult> {
  checkOptions(options);
  const out = resolve(options.out);
  if (options.resume && !(await readPlan(out)))
    throw new InputError(`${out}: holds no run to resume (there is no ${PLAN})`);
  const made = await mkdir(out, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST" && error.code !== "ENOTDIR") throw diskError(out, error);
    throw new InputError(`${out}: a file stands there or on the way; expected a folder for the run`);
  });
  try {
    const lock = await lockFolder(out);
    try {
      const plan = options.resume ? await oldPlan(out, options) : await newPlan(out, options);
      await tidyFolder(out);
      return await runPlan(out, plan, options);
    } finally {
      await lock.release();
    }
  } catch (error) {
    // A folder that was made for a run that never began; one with something in it stays.
    if (made !== undefined) await rmdir(out).catch(() => {});
    throw error;
  }
}

function checkOptions(options: TrainOptions): void {
  checkFields("train", options, [
    "corpus",
    "out",
    "settings",
    "resume",
    "device",
    "threads",
    "signal",
    "onStep",
    "onValidation",
    "onSample",
    "onStopped",
    "onNote",
    "onProgress",
  ]);
  const { corpus, out, settings, resume } = options;
  if (typeof out !== "string" || out === "") throw new InputError("out: expected the folder of the run");
  if (resume && settings !== undefined)
    throw new InputError("resume goes on with the run's own settings: give it no others");
  const given = corpus !== undefined || !resume;
  if (given && (typeof corpus !== "string" || corpus === ""))
    throw new InputError("no corpus: expected a .txt or .jsonl file, or a folder of them");
}

const readPlan = (out: string) => readObject(join(out, PLAN));

async function newPlan(out: string, { corpus, settings = {} }: TrainOptions): Promise<Plan> {
  if (await readPlan(out))
    throw new InputError(`${out}: holds a run already; go on with it by --resume, or take another folder`);
  const foreign = (await readdir(out)).find(
    // What a run leaves that was killed while it wrote its first file.
    (name) => name !== asideOf(PLAN) && isReplaced(withoutAside(name)),
  );
  if (foreign !== undefined)
    throw new InputError(
      `${out}: holds a ${foreign} that is of no run, which training would replace; take another folder`,
    );
  const filled = fillSettings("settings", settings);
  // What depends on no text is said before any is read.
  if (filled.epochs === undefined) scheduleOf(filled, filled.steps);
  const paths = Object.entries(filled).flatMap(([name, value]) =>
    table[name as SettingName].kind === "path" ? [[name, resolve(value as string)]] : [],
  );
  for (const text of [corpus!, filled.validationCorpus])
    if (text !== undefined && isWithin(out, resolve(text)))
      throw new InputError(
        `${out}: lies in ${resolve(text)}, so that its ${METRICS} would become text to train on; take a folder outside of it`,
      );
  return { corpus: resolve(corpus!), settings: { ...filled, ...Object.fromEntries(paths) } };
}

function isWithin(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way === "" || (way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way));
}

async function oldPlan(out: string, { corpus }: TrainOptions): Promise<Plan> {
  const path = join(out, PLAN);
  const plan = await readPlan(out);
  if (plan?.version !== VERSION)
    throw new InputError(
      `${path}: version ${plan?.version}; this lmhead goes on with runs of version ${VERSION}`,
    );
  const { corpus: own, dataHash } = plan;
  if (typeof own !== "string" || (dataHash !== undefined && typeof dataHash !== "string"))
    throw new InputError(`${path}: is damaged: expected the corpus and its hash`);
  const settings = checkFilled(`${path}: settings`, plan.settings);
  // The text may have moved: its hash tells whether it is the same.
  return { corpus: corpus === undefined ? own : resolve(corpus), settings, dataHash };
}

async function runPlan(out: string, asked: Plan, options: TrainOptions): Promise<RunResult> {
  const { signal, device, threads } = options;
  const note = (text: string) => options.onNote?.(text);
  const progress = (text: string) => options.onProgress?.(text);
  const found = await newestCheckpoint(out, await metricsSize(out), note);
  const texts = await openTexts(asked.corpus, asked.settings, signal);
  if (asked.dataHash !== undefined && asked.dataHash !== texts.hash)
    throw new InputError(
      `${asked.corpus}: the text has changed since the run began; restore it, or begin anew in another folder`,
    );
  // A run that is resumed has its number written down.
  const exact = options.resume || options.settings?.vocabSize !== undefined;
  const trainable = await openTrainable(asked.corpus, asked.settings, found?.path, exact, progress, signal);
  const { tokenizer } = trainable.tokenizer;
  const plan = { ...asked, settings: supported(asked.settings, tokenizer.vocabSize, note) };
  const { settings } = plan;
  let model: LanguageModel | undefined;
  let data: TrainingData | undefined;
  let trainer: Trainer | undefined;
  try {
    data = await openData(texts, trainable.tokenizer, settings, join(out, IDS), progress, signal);
    const where = { device, threads, weights: "float32", signal } as const;
    model = new LanguageModel(await placeModel(trainable.opened, where, settings.freeze === "body"));
    checkPrompts(model, settings);
    warn(model, settings, options.resume || options.settings?.learningRate !== undefined, note);
    const steps = stepsOf(settings, data.training.epochAt(settings.accumulate));
    scheduleOf(settings, steps);
    trainer = await Trainer.create(model, optimizerOf(settings));
    if (found) await resumeFrom(trainer, found, steps, note);
    await replaceFile(join(out, PLAN), prettyJson({ version: VERSION, ...plan, dataHash: texts.hash }));
    describe(note, model, data, steps);
    const parts = {
      out,
      settings,
      steps,
      data,
      tokenizer,
      trainer,
      folder: trainable.folder(model),
      progress: found?.progress ?? { step: 0, tokens: 0, metricsBytes: 0 },
      events: options,
      signal,
    };
    return await Run.go(parts, firstMetric(out, plan, model, steps));
  } finally {
    trainer?.free();
    await data?.close();
    await (model ? model.close() : trainable.opened.checkpoint.close());
  }
}

/** The settings with the vocabulary that a new tokenizer has, where the text supports less than the preset has. */
function supported(
  settings: FilledSettings,
  vocabSize: number,
  note: (text: string) => void,
): FilledSettings {
  const isNew = settings.tokenizer === undefined && settings.init === undefined;
  if (!isNew || vocabSize >= settings.vocabSize) return settings;
  note(
    `the text supports a vocabulary of ${grouped(vocabSize)} tokens, fewer than the ${grouped(settings.vocabSize)} of the preset ${settings.preset}`,
  );
  return { ...settings, vocabSize };
}

/** What is allowed, and is seldom what was meant. */
function warn(
  model: LanguageModel,
  settings: FilledSettings,
  rateGiven: boolean,
  note: (text: string) => void,
): void {
  const { init, learningRate, preset, prompts, sampleEvery } = settings;
  if (init !== undefined && !rateGiven)
    note(
      `learning rate ${learningRate} is that of the preset ${preset} for new models; a trained one mostly wants less (as 1e-4)`,
    );
  const silent = model.eosIds.length === 0 && (prompts.length === 0 || prompts.includes(""));
  if (silent && sampleEvery > 0)
    note("no samples from nothing: the tokenizer has no token that ends a text, to begin with");
}

/** Prompts that a sample can't be asked of are said before the first step, not after hundreds. */
function checkPrompts(model: LanguageModel, { prompts }: FilledSettings): void {
  for (const prompt of prompts)
    if (prompt !== "")
      try {
        model.promptIds(prompt);
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        throw new InputError(`prompts: ${JSON.stringify(prompt)}: ${error.message}`, { cause: error });
      }
}

async function resumeFrom(
  trainer: Trainer,
  { path, progress: { step } }: Found,
  steps: number,
  note: (text: string) => void,
): Promise<void> {
  await trainer.restore({ steps: step, tensors: await readOptimizer(path) });
  note(
    step === steps
      ? `${counted(steps)} done: nothing is left to do`
      : `going on after step ${grouped(step)}, from ${path}`,
  );
}

const counted = (steps: number): string => `${grouped(steps)} ${steps === 1 ? "step" : "steps"}`;

function describe(
  note: (text: string) => void,
  model: LanguageModel,
  { training, validation }: TrainingData,
  steps: number,
): void {
  const { family, parameters, vocabSize } = model.info();
  note(
    `${family} of ${grouped(parameters)} parameters, ${grouped(vocabSize)} tokens, on ${model.device.description}`,
  );
  note(
    `${grouped(training.predicted)} tokens to train on, ${grouped(validation.predicted)} to validate; ${counted(steps)}`,
  );
}

function firstMetric(out: string, { corpus, settings }: Plan, model: LanguageModel, steps: number) {
  const { family, parameters, vocabSize, hiddenSize, layers } = model.info();
  return {
    type: "run",
    name: settings.name ?? basename(out),
    model: { family, parameters, vocabSize, hiddenSize, layers },
    steps,
    config: { corpus, ...settings },
  } as const;
}
