import { mkdir } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { checkFields, InputError } from "../../errors.js";
import type { Device } from "../../kernels/device.js";
import { LanguageModel } from "../../model/language-model.js";
import { placeModel } from "../../model/load.js";
import { Trainer } from "../trainer/trainer.js";
import { type Found, newestCheckpoint, readOptimizer } from "./checkpoints.js";
import { openData } from "./data.js";
import { lockFolder } from "./lock.js";
import { optimizerOf } from "./optimizer.js";
import { metricsSize, Run, type RunEvents, type RunResult } from "./run.js";
import { diskError, json, readObject, replaceFile, tidyFolder } from "./run-files.js";
import { type FilledSettings, fillSettings } from "./settings.js";
import { openTrainable, type Trainable } from "./trainable.js";

/** Options of `train`. */
export interface TrainOptions extends RunEvents {
  /** A .txt or .jsonl file, or a folder of them. With `resume` it is the run's own. */
  readonly corpus?: string;
  /** The run's folder; made when it is not there. */
  readonly out: string;
  /** As `lmhead train --config` reads them; `settingsSchema()` lists them. Default: the preset tiny. */
  readonly settings?: unknown;
  /** Goes on with the run in `out`, with its own settings. Default false. */
  readonly resume?: boolean;
  /** Where to run; the bits of a run on "wasm" are the same for any number of threads. Default "auto". */
  readonly device?: "auto" | "wasm" | "reference" | Device;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

const PLAN = "train.json";
const VERSION = 1;

/** What a run's folder says about the run. */
interface Plan {
  readonly corpus: string;
  readonly settings: FilledSettings;
  /** Of the data; absent until it has been read once. */
  readonly dataHash?: string;
}

/**
 * Trains a language model from text, or goes on with a run: `lmhead train` as a function, for Node. The folder then holds
 * checkpoints (Hugging Face folders with the optimizer's state), the best model in `best`, `metrics.jsonl` and
 * `report.html`. A run that was stopped at any moment and resumed ends with the same weights and metrics, to the bit, as
 * one that was not.
 * @throws InputError for bad settings or text, a folder that holds another run or is in use, a loss that is not finite, a
 *   full disk; AbortError after `signal`, with a checkpoint of the last finished step
 */
export async function train(options: TrainOptions): Promise<RunResult> {
  checkOptions(options);
  const out = resolve(options.out);
  try {
    await mkdir(out, { recursive: true });
  } catch (error) {
    throw diskError(out, error);
  }
  const lock = await lockFolder(out);
  try {
    await tidyFolder(out);
    const plan = options.resume ? await oldPlan(out, options) : await newPlan(out, options);
    return await runPlan(out, plan, options);
  } finally {
    await lock.release();
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
    "onNote",
    "onProgress",
  ]);
  const { corpus, out, settings, resume } = options;
  if (typeof out !== "string" || out === "") throw new InputError("out: expected the folder of the run");
  if (resume && settings !== undefined)
    throw new InputError("resume goes on with the run's own settings: give it no others");
  if (!resume && (typeof corpus !== "string" || corpus === ""))
    throw new InputError("no corpus: expected a .txt or .jsonl file, or a folder of them");
}

async function newPlan(out: string, { corpus, settings = {} }: TrainOptions): Promise<Plan> {
  if (await readObject(join(out, PLAN)))
    throw new InputError(`${out}: holds a run already; go on with it by --resume, or take another folder`);
  const filled = fillSettings("settings", settings);
  const absolute = (path: string | undefined) => path && resolve(path);
  const { validationCorpus, tokenizer, init } = filled;
  const paths = {
    ...(validationCorpus && { validationCorpus: absolute(validationCorpus) }),
    ...(tokenizer && { tokenizer: absolute(tokenizer) }),
    ...(init && { init: absolute(init) }),
  };
  return { corpus: resolve(corpus!), settings: { ...filled, ...paths } };
}

async function oldPlan(out: string, { corpus }: TrainOptions): Promise<Plan> {
  const path = join(out, PLAN);
  const plan = await readObject(path);
  if (!plan) throw new InputError(`${out}: holds no run to resume (there is no ${PLAN})`);
  if (plan.version !== VERSION)
    throw new InputError(
      `${path}: version ${plan.version}; this lmhead goes on with runs of version ${VERSION}`,
    );
  const { settings, corpus: own, dataHash } = plan as unknown as Plan;
  if (corpus !== undefined && resolve(corpus) !== own)
    throw new InputError(`${out}: this run's corpus is ${own}, not ${resolve(corpus)}; leave the corpus out`);
  return { corpus: own, settings, dataHash };
}

async function runPlan(out: string, plan: Plan, options: TrainOptions): Promise<RunResult> {
  const { settings } = plan;
  const { signal, device, threads } = options;
  const note = (text: string) => options.onNote?.(text);
  const progress = (text: string) => options.onProgress?.(text);
  const found = await newestCheckpoint(out, await metricsSize(out), note);
  const trainable = await openTrainable(plan.corpus, settings, found?.path, progress, signal);
  let model: LanguageModel | undefined;
  let data: Awaited<ReturnType<typeof openData>> | undefined;
  try {
    data = await openData(plan.corpus, trainable.tokenizer, settings, join(out, "ids"), progress, signal);
    if (plan.dataHash !== undefined && plan.dataHash !== data.hash)
      throw new InputError(
        `${plan.corpus}: the text has changed since the run began; restore it, or begin anew`,
      );
    model = new LanguageModel(
      await placeModel(
        trainable.opened,
        { device, threads, weights: "float32", signal },
        settings.freeze === "body",
      ),
    );
    checkVocabulary(trainable, model);
    await replaceFile(join(out, PLAN), json({ version: VERSION, ...plan, dataHash: data.hash }));
    const trainer = await Trainer.create(model, optimizerOf(settings));
    if (found) await resumeFrom(trainer, found, note);
    const steps = stepsOf(settings, data.training.epochAt(settings.accumulate));
    describe(note, model, data, steps);
    const parts = {
      out,
      settings,
      steps,
      data,
      trainer,
      folder: trainable.folder(model),
      progress: found?.progress ?? { step: 0, tokens: 0, metricsBytes: 0 },
      events: options,
      signal,
    };
    return await Run.go(parts, firstMetric(out, plan, model, steps));
  } finally {
    await data?.close();
    await (model ? model.close() : trainable.opened.checkpoint.close());
  }
}

async function resumeFrom(trainer: Trainer, { path, progress }: Found, note: (text: string) => void) {
  await trainer.restore({ steps: progress.step, tensors: await readOptimizer(path) });
  note(`going on after step ${progress.step}, from ${path}`);
}

/** @param epochsAStep of the training text */
function stepsOf({ steps, epochs }: FilledSettings, epochsAStep: number): number {
  return epochs === undefined ? steps : Math.max(1, Math.ceil(epochs / epochsAStep - 1e-9));
}

function checkVocabulary({ tokenizer: { tokenizer } }: Trainable, model: LanguageModel): void {
  if (tokenizer.vocabSize > model.head.vocabSize)
    throw new InputError(
      `the tokenizer has ${tokenizer.vocabSize} tokens, the model ${model.head.vocabSize}: they do not belong together`,
    );
}

function describe(
  note: (text: string) => void,
  model: LanguageModel,
  data: { training: { predicted: number }; validation: { predicted: number } },
  steps: number,
): void {
  const { family, parameters, vocabSize } = model.info();
  note(
    `${family} of ${parameters} parameters, ${vocabSize} tokens; ${data.training.predicted} tokens to train on, ${data.validation.predicted} to validate; ${steps} steps on ${model.device.description}`,
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
