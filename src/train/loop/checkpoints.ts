import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { InputError } from "../../errors.js";
import { fileSource } from "../../model/formats/node-files.js";
import { openSafetensors } from "../../model/formats/safetensors.js";
import type { Trainer } from "../trainer/trainer.js";
import { type ModelFolder, writeModel } from "./model-folder.js";
import {
  isAsWritten,
  json,
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
  readonly files: Readonly<Record<string, WrittenFile>>;
}

/** A checkpoint that was found whole. */
export interface Found {
  readonly path: string;
  readonly progress: Progress;
}

const WEIGHTS = "model.safetensors";
const OPTIMIZER = "optimizer.safetensors";
const MANIFEST = "training.json";

const nameOf = (step: number): string => `step-${String(step).padStart(6, "0")}`;

/** Steps of the checkpoints in a folder, newest first. */
export async function checkpointSteps(out: string): Promise<number[]> {
  const names = await readdir(out);
  const steps = names.flatMap((name) => /^step-(\d{6,})$/.exec(name)?.[1] ?? []).map(Number);
  return steps.sort((a, b) => b - a);
}

/** Where the checkpoint of a step stands. */
export function checkpointPath(out: string, step: number): string {
  return join(out, nameOf(step));
}

/** Writes a checkpoint aside and gives it its name when it is whole. @throws InputError when the disk is full */
export async function saveCheckpoint(
  out: string,
  trainer: Trainer,
  folder: ModelFolder,
  progress: Progress,
): Promise<void> {
  await writeFolder(checkpointPath(out, progress.step), async (aside) => {
    const weights = await writeModel(aside, folder);
    const states = trainer.states().map(({ name, length, read }) => ({ name, shape: [length], read }));
    const optimizer = await writeSafetensors(join(aside, OPTIMIZER), states);
    const files = { [WEIGHTS]: weights, [OPTIMIZER]: optimizer };
    await writeText(join(aside, MANIFEST), json({ version: 1, ...progress, files } satisfies Manifest));
  });
}

/** Removes checkpoints but the `keep` newest of those that `counts`; the newest of all stays in any case. */
export async function pruneCheckpoints(
  out: string,
  keep: number,
  counts: (step: number) => boolean,
): Promise<void> {
  const [newest, ...others] = await checkpointSteps(out);
  if (newest === undefined) return;
  const kept = new Set([newest, ...others.filter(counts).slice(0, counts(newest) ? keep - 1 : keep)]);
  for (const step of others)
    if (!kept.has(step)) await rm(checkpointPath(out, step), { recursive: true, force: true });
}

/**
 * The newest checkpoint that is whole.
 * @param metricsBytes what the metrics file has; a checkpoint that needs more can't be gone on from
 * @param onDamaged called for each that is passed over
 */
export async function newestCheckpoint(
  out: string,
  metricsBytes: number,
  onDamaged: (message: string) => void,
): Promise<Found | undefined> {
  for (const step of await checkpointSteps(out)) {
    const path = checkpointPath(out, step);
    const found = await wholeCheckpoint(path, metricsBytes);
    if (typeof found !== "string") return found;
    onDamaged(`${path}: ${found}; going back to the one before`);
  }
  return undefined;
}

async function wholeCheckpoint(path: string, metricsBytes: number): Promise<Found | string> {
  const manifest = await readObject(join(path, MANIFEST)).catch(() => undefined);
  if (!manifest || manifest.version !== 1) return `${MANIFEST} is missing or damaged`;
  const { files, step, tokens, best, metricsBytes: needed } = manifest as unknown as Manifest;
  for (const name of [WEIGHTS, OPTIMIZER])
    if (!(await isAsWritten(join(path, name), files[name]))) return `${name} is cut or damaged`;
  if (needed > metricsBytes) return "the metrics file is shorter than it was then";
  return { path, progress: { step, tokens, metricsBytes: needed, ...(best && { best }) } };
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
