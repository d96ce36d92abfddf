import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { InputError } from "../../errors.js";
import { isObject } from "../../model/formats/files.js";
import { prettyJson } from "../../model/formats/folder.js";
import { fileSource } from "../../model/formats/node-files.js";
import { openSafetensors } from "../../model/formats/safetensors.js";
import type { Trainer } from "../trainer/trainer.js";
import { checkpointPath, checkpointStep, METRICS } from "./layout.js";
import { type ModelFolder, writeModel } from "./model-folder.js";
import {
  isAsWritten,
  readObject,
  type WrittenFile,
  writeFolder,
  writeSafetensors,
  writeText,
} from "./run-files.js";

/**
 * Checkpoints of a run: ordinary Hugging Face folders `step-000500`, and in them `optimizer.safetensors` and
 * `training.json`, which hold what a resumed run needs beside the weights.
 */

/** Where a run stands, beside the weights and the optimizer's state. */
export interface Progress {
  /** Steps finished. */
  readonly step: number;
  /** Tokens predicted. */
  readonly tokens: number;
  /** Bytes of the metrics file at this moment. */
  readonly metricsBytes: number;
  /** The best validation so far. */
  readonly best?: { readonly step: number; readonly loss: number };
}

interface Manifest extends Progress {
  readonly version: 1;
  /** Every other file of the checkpoint. */
  readonly files: Readonly<Record<string, WrittenFile>>;
}

/** A checkpoint that was found whole. */
export interface Found {
  readonly path: string;
  readonly progress: Progress;
}

const OPTIMIZER = "optimizer.safetensors";
const MANIFEST = "training.json";

/** Steps of the checkpoints in a folder, newest first. */
export async function checkpointSteps(out: string): Promise<number[]> {
  const steps = (await readdir(out)).map(checkpointStep).filter((step) => step !== undefined);
  return steps.sort((a, b) => b - a);
}

/** Writes a checkpoint aside and gives it its name when it is whole. @throws InputError when the disk is full */
export async function saveCheckpoint(
  out: string,
  trainer: Trainer,
  folder: ModelFolder,
  progress: Progress,
): Promise<void> {
  await writeFolder(checkpointPath(out, progress.step), async (aside) => {
    const model = await writeModel(aside, folder);
    const states = trainer.states().map(({ name, length, read }) => ({ name, shape: [length], read }));
    const optimizer = await writeSafetensors(join(aside, OPTIMIZER), states);
    const files = { ...model, [OPTIMIZER]: optimizer };
    await writeText(join(aside, MANIFEST), prettyJson({ version: 1, ...progress, files } satisfies Manifest));
  });
}

/**
 * Removes checkpoints but that of `newest` and the `keep` newest of those that count. Later ones than `newest` are gone
 * too: they were found damaged, and the run is on its way to make them again.
 */
export async function pruneCheckpoints(
  out: string,
  newest: number,
  keep: number,
  counts: (step: number) => boolean,
): Promise<void> {
  const steps = await checkpointSteps(out);
  const whole = steps.filter((step) => step <= newest && counts(step)).slice(0, keep);
  for (const step of steps)
    if (step !== newest && !whole.includes(step))
      await rm(checkpointPath(out, step), { recursive: true, force: true });
}

/**
 * The newest checkpoint that is whole; undefined when there is none at all.
 * @param metricsBytes what the metrics file has; a checkpoint that needs more can't be gone on from
 * @param onDamaged called for each that is passed over
 * @throws InputError when there are some, and none of them is whole
 */
export async function newestCheckpoint(
  out: string,
  metricsBytes: number,
  onDamaged: (message: string) => void,
): Promise<Found | undefined> {
  const why: string[] = [];
  for (const step of await checkpointSteps(out)) {
    const found = await wholeCheckpoint(out, step, metricsBytes);
    if (typeof found !== "string") {
      for (const message of why) onDamaged(`${message}; going back to the checkpoint before`);
      return found;
    }
    why.push(`${checkpointPath(out, step)}: ${found}`);
  }
  if (why.length === 0) return undefined;
  throw new InputError(
    `no checkpoint is whole (${why.join("; ")}): restore one from a copy, or begin anew in another folder`,
  );
}

async function wholeCheckpoint(out: string, step: number, metricsBytes: number): Promise<Found | string> {
  const path = checkpointPath(out, step);
  const manifest = await readObject(join(path, MANIFEST)).catch(() => undefined);
  if (!isManifest(manifest) || manifest.step !== step) return `${MANIFEST} is missing or damaged`;
  const { files, tokens, best, metricsBytes: needed } = manifest;
  for (const [name, file] of Object.entries(files))
    if (!(await isAsWritten(join(path, name), file))) return `${name} is missing, cut or altered`;
  if (needed > metricsBytes) return `${METRICS} is shorter than it was then`;
  return { path, progress: { step, tokens, metricsBytes: needed, ...(best && { best }) } };
}

function isManifest(value: unknown): value is Manifest {
  if (!isObject(value) || value.version !== 1 || !isObject(value.files)) return false;
  const { step, tokens, metricsBytes, best, files } = value;
  return (
    [step, tokens, metricsBytes].every((n) => Number.isSafeInteger(n) && (n as number) >= 0) &&
    (best === undefined ||
      (isObject(best) && Number.isSafeInteger(best.step) && Number.isFinite(best.loss))) &&
    OPTIMIZER in files &&
    Object.entries(files).every(
      ([name, file]) =>
        !/[\\/]/.test(name) &&
        isObject(file) &&
        typeof file.bytes === "number" &&
        typeof file.sha256 === "string",
    )
  );
}

/** The optimizer's state of a checkpoint. @throws InputError when it is not as it should be */
export async function readOptimizer(path: string): Promise<Map<string, Float32Array>> {
  const checkpoint = await openSafetensors(await fileSource(join(path, OPTIMIZER)));
  try {
    const tensors = new Map<string, Float32Array>();
    for (const { name, shape } of checkpoint.tensors.values()) {
      if (shape.length !== 1) throw new InputError(`${path}: state ${name}: expected one dimension`);
      tensors.set(name, await checkpoint.vector(name, shape[0]));
    }
    return tensors;
  } finally {
    await checkpoint.close();
  }
}
