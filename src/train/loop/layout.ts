import { join } from "node:path";

/** Where things stand in a run's folder. */

/** What the run is: its corpus and its settings, all of them. */
export const PLAN = "train.json";
export const METRICS = "metrics.jsonl";
export const REPORT = "report.html";
/** The model with the lowest validation loss. */
export const BEST = "best";
/** The corpus as ids. */
export const IDS = "ids";
/** Who trains into the folder at this moment. */
export const LOCK = "lock";

const CHECKPOINT = /^step-(\d{6,})$/;

/** The step of a checkpoint, by its folder's name; undefined for other names. */
export function checkpointStep(name: string): number | undefined {
  const digits = CHECKPOINT.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Where the checkpoint of a step stands. */
export function checkpointPath(out: string, step: number): string {
  return join(out, `step-${String(step).padStart(6, "0")}`);
}

/** Whether a run writes something under this name, and puts another in its place later. */
export function isReplaced(name: string): boolean {
  return [PLAN, METRICS, REPORT, BEST].includes(name) || checkpointStep(name) !== undefined;
}
