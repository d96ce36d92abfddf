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

/** The name under which something is written until it is whole. */
export const asideOf = (path: string): string => `${path}.new`;
/** The name of what is about to be replaced. */
export const movedOf = (path: string): string => `${path}.old`;
/** The name that something written aside or moved away is to have. */
export const withoutAside = (name: string): string => name.replace(/\.(new|old)$/, "");

/** Whether a run writes something under this name, and puts another in its place later. */
export function isReplaced(name: string): boolean {
  return [PLAN, METRICS, REPORT, BEST].includes(name) || checkpointStep(name) !== undefined;
}
