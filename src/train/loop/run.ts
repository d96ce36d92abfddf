import { type FileHandle, open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { AbortError, InputError } from "../../errors.js";
import type { Tokenizer } from "../../model/tokenizer/tokenizer.js";
import type { Batch } from "../data/batches.js";
import { type Metric, parseMetrics } from "../metrics.js";
import { grouped } from "../report/format.js";
import { trainingReport } from "../report/report.js";
import { learningRate, type Schedule } from "../schedules.js";
import type { Trainer, TrainStep } from "../trainer/trainer.js";
import { type Progress, pruneCheckpoints, saveCheckpoint } from "./checkpoints.js";
import type { TrainingData } from "./data.js";
import { BEST, checkpointPath, METRICS, REPORT } from "./layout.js";
import { isModel, type ModelFolder, writeModel } from "./model-folder.js";
import { diskError, replaceFile, writeFolder } from "./run-files.js";
import { scheduleOf } from "./schedule.js";
import type { FilledSettings } from "./settings.js";
import { Validator } from "./validation.js";

/** What a run tells while it goes. */
export interface RunEvents {
  /** After each step. */
  onStep?(step: number, steps: number, result: TrainStep): void;
  /** After each validation. */
  onValidation?(step: number, loss: number, bitsPerByte: number): void;
  /** A sample of what the model writes. */
  onSample?(step: number, prompt: string, text: string): void;
  /** After the signal: the last step that is finished, and its checkpoint; none before the first step. */
  onStopped?(step: number, checkpoint: string | undefined): void;
  /** What happens before the first step, and what is worth a line of its own. */
  onNote?(text: string): void;
  /** What goes on now, to be written over. */
  onProgress?(text: string): void;
}

/** Everything that a loop needs, opened. */
export interface RunParts {
  readonly out: string;
  readonly settings: FilledSettings;
  readonly steps: number;
  readonly data: TrainingData;
  readonly tokenizer: Tokenizer;
  readonly trainer: Trainer;
  readonly folder: ModelFolder;
  readonly progress: Progress;
  readonly events: RunEvents;
  readonly signal?: AbortSignal;
}

/** What a run ends with. */
export interface RunResult {
  readonly steps: number;
  readonly best: { readonly step: number; readonly loss: number };
  /** The folder of the best model. */
  readonly model: string;
  readonly report: string;
}

/** Runs the steps that are left, with what goes on between them. */
export class Run {
  private readonly schedule: Schedule;
  private readonly validator: Validator;
  private progress: Progress;
  private saved: number | undefined;

  private constructor(
    private readonly parts: RunParts,
    private readonly metrics: FileHandle,
  ) {
    this.schedule = scheduleOf(parts.settings, parts.steps);
    const { trainer, tokenizer, data, settings } = parts;
    this.validator = new Validator(trainer, tokenizer, data.validation, settings.validationBatches);
    this.progress = parts.progress;
    if (parts.progress.step > 0) this.saved = parts.progress.step;
  }

  /**
   * Goes on from `parts.progress` to the last step.
   * @throws InputError when a loss or gradient is not finite, or a file can't be written; AbortError after the signal,
   *   with a checkpoint of the last step that was finished
   */
  static async go(parts: RunParts, first: Metric): Promise<RunResult> {
    const path = join(parts.out, METRICS);
    const file = await open(path, "a");
    try {
      const run = new Run(parts, file);
      await file.truncate(parts.progress.metricsBytes);
      if (parts.progress.step === 0) await run.note(first);
      return await run.steps();
    } catch (error) {
      throw diskError(path, error);
    } finally {
      await file.close();
    }
  }

  private async steps(): Promise<RunResult> {
    const { steps, out, signal } = this.parts;
    // What a process that was killed just after a checkpoint had no time for.
    if (this.saved !== undefined) await this.settle();
    await this.restoreBest();
    while (this.progress.step < steps) {
      if (signal?.aborted || !(await this.step())) await this.leave();
    }
    const best = this.progress.best!;
    return { steps, best, model: join(out, BEST), report: join(out, REPORT) };
  }

  /** One step and what is due after it. False when the signal came before its change: nothing has happened then. */
  private async step(): Promise<boolean> {
    const { trainer, settings, steps, events, signal } = this.parts;
    const { validateEvery, sampleEvery } = settings;
    const before = this.progress.step;
    const rate = learningRate(this.schedule, before);
    const batches = await this.batches(before);
    const step = before + 1;
    const result = await this.guard(step, () => trainer.step(batches, rate, signal)).catch(
      (error: unknown) => {
        if (error instanceof AbortError) return undefined;
        throw error;
      },
    );
    if (!result) return false;
    const tokens = this.progress.tokens + result.predicted;
    this.progress = { ...this.progress, step, tokens };
    const { loss, gradientNorm } = result;
    await this.note({ type: "step", step, loss, learningRate: rate, gradientNorm, tokens });
    events.onStep?.(step, steps, result);
    const due = (every: number) => step === steps || (every > 0 && step % every === 0);
    if (due(validateEvery)) await this.guard(step, () => this.validate());
    if (due(sampleEvery)) await this.guard(step, () => this.sample());
    if (this.counts(step)) await this.save();
    return true;
  }

  /** What is learnt from after `done` steps. */
  private async batches(done: number): Promise<Batch[]> {
    const { data, settings } = this.parts;
    const batches: Batch[] = [];
    for (let i = 0; i < settings.accumulate; i++)
      batches.push(await data.training.batch(done * settings.accumulate + i));
    return batches;
  }

  /** Whether a checkpoint of this step is due. */
  private counts(step: number): boolean {
    const { checkpointEvery } = this.parts.settings;
    return step === this.parts.steps || (checkpointEvery > 0 && step % checkpointEvery === 0);
  }

  private async validate(): Promise<void> {
    const { step, best } = this.progress;
    const { loss, perplexity, bitsPerByte } = await this.validator.run((done) =>
      this.parts.events.onProgress?.(`validating: ${grouped(done)} tokens`),
    );
    await this.note({ type: "validation", step, loss, perplexity, bitsPerByte });
    this.parts.events.onValidation?.(step, loss, bitsPerByte);
    if (best && best.loss <= loss) return;
    this.progress = { ...this.progress, best: { step, loss } };
    await this.writeBest();
  }

  private async writeBest(): Promise<void> {
    await writeFolder(join(this.parts.out, BEST), async (aside) => {
      await writeModel(aside, this.parts.folder);
    });
  }

  /**
   * Makes the best model again when it was moved away: from these weights when they are the best.
   * @throws InputError when it is of an earlier step and there is no validation left that could make another
   */
  private async restoreBest(): Promise<void> {
    const { out, steps, events } = this.parts;
    const { step, best } = this.progress;
    const path = join(out, BEST);
    if (!best || (await isModel(path))) return;
    if (best.step === step) return this.writeBest();
    const gone = `${path}: is not there, and was of step ${best.step}, whose weights are gone`;
    if (step === steps)
      throw new InputError(`${gone}; bring it back, or take ${checkpointPath(out, step)}, a model as well`);
    events.onNote?.(`${gone}: it will be the best of the validations to come`);
    const { best: _, ...rest } = this.progress;
    this.progress = rest;
  }

  private async sample(): Promise<void> {
    const { settings, trainer, events } = this.parts;
    const { model } = trainer;
    const { step } = this.progress;
    const prompts = settings.prompts.length > 0 ? settings.prompts : [""];
    for (const [sequence, prompt] of prompts.entries()) {
      // Without a prompt a text begins after the token that ends one.
      const begin = model.eosIds.slice(0, 1);
      if (prompt === "" && begin.length === 0) continue;
      const { text } = await model.generateAll(prompt === "" ? { ids: begin } : prompt, {
        temperature: 0.8,
        seed: settings.seed,
        sequence,
        maxNewTokens: settings.sampleTokens,
      });
      await this.note({ type: "sample", step, prompt, text });
      events.onSample?.(step, prompt, text);
    }
  }

  /**
   * A checkpoint and the report of this moment.
   * @throws InputError when the model has diverged: that shows only in the next step's forward, and no checkpoint may be
   *   one from which a run can't go on
   */
  private async save(): Promise<void> {
    const { out, trainer, folder } = this.parts;
    const { step } = this.progress;
    if (this.saved === step) return;
    for (const batch of await this.batches(step)) await this.guard(step, () => trainer.evaluate(batch));
    await this.metrics.sync();
    const { size } = await this.metrics.stat();
    this.progress = { ...this.progress, metricsBytes: size };
    await saveCheckpoint(out, trainer, folder, this.progress);
    this.saved = step;
    await this.settle();
  }

  /** What follows a checkpoint: older ones go, and the report is made anew. */
  private async settle(): Promise<void> {
    const { out, settings } = this.parts;
    await pruneCheckpoints(out, this.saved!, settings.keep, (step) => this.counts(step));
    await writeReport(out);
  }

  private async leave(): Promise<never> {
    const { out, events, signal } = this.parts;
    const { step } = this.progress;
    if (step > 0) await this.save();
    events.onStopped?.(step, step > 0 ? checkpointPath(out, step) : undefined);
    throw new AbortError(signal);
  }

  private async note(metric: Metric): Promise<void> {
    await this.metrics.appendFile(`${JSON.stringify(metric)}\n`);
  }

  /** Says with a failure where the run was, and what is left of it. */
  private async guard<T>(step: number, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      const { out } = this.parts;
      const good = this.saved === undefined ? "none yet" : checkpointPath(out, this.saved);
      throw new InputError(`step ${step}: ${error.message} (the last good checkpoint: ${good})`, {
        cause: error,
      });
    }
  }
}

/** Makes the report anew from the metrics. */
async function writeReport(out: string): Promise<void> {
  const path = join(out, METRICS);
  const metrics = parseMetrics(await readFile(path, "utf8"), path);
  await replaceFile(join(out, REPORT), trainingReport(metrics));
}

/** Bytes of a run's metrics; 0 when there are none. */
export async function metricsSize(out: string): Promise<number> {
  const found = await stat(join(out, METRICS)).catch(() => undefined);
  return found?.size ?? 0;
}
