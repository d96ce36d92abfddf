import { checkFields } from "../errors.js";
import { must } from "./optimizers/hyper.js";

/** What every schedule has. */
interface Warmup {
  /** The highest learning rate, from 0. */
  readonly peak: number;
  /** Steps s = 0 … warmupSteps − 1 have peak · s / warmupSteps. Default 0: step 0 has the peak. */
  readonly warmupSteps?: number;
}

/** What schedules that end have. */
interface Decay extends Warmup {
  /** Steps of the run, warm-up included: steps 0 … steps − 1. */
  readonly steps: number;
  /** The rate from step `steps` on, as a share of the peak, in [0, 1]. Default 0. */
  readonly finalFraction?: number;
}

/** The peak after warm-up, for ever (transformers: `get_constant_schedule_with_warmup`). */
export interface ConstantSchedule extends Warmup {
  readonly kind: "constant";
}

/** Straight down from the peak (transformers: `get_linear_schedule_with_warmup`; with a final fraction, `get_polynomial_decay_schedule_with_warmup` of power 1). */
export interface LinearSchedule extends Decay {
  readonly kind: "linear";
}

/** Half a cosine down from the peak (transformers: `get_cosine_schedule_with_warmup`; with a final fraction, `get_cosine_with_min_lr_schedule_with_warmup`). */
export interface CosineSchedule extends Decay {
  readonly kind: "cosine";
}

/** Warm-up, the peak, and a decay over the last steps (transformers: `get_wsd_schedule`, whose warm-up begins at its minimum, not at 0). */
export interface WsdSchedule extends Decay {
  readonly kind: "wsd";
  /** Length of the decay; from step steps − decaySteps, which still has the peak. */
  readonly decaySteps: number;
  /** "linear": 1 − u; "1-sqrt": 1 − √u (Hägele et al. 2024), u the share of the decay done. Default "linear". */
  readonly decay?: "linear" | "1-sqrt";
}

/** A learning rate as a function of the step: plain data, fit for a checkpoint. */
export type Schedule = ConstantSchedule | LinearSchedule | CosineSchedule | WsdSchedule;

const FIELDS: Record<Schedule["kind"], readonly string[]> = {
  constant: ["kind", "peak", "warmupSteps"],
  linear: ["kind", "peak", "warmupSteps", "steps", "finalFraction"],
  cosine: ["kind", "peak", "warmupSteps", "steps", "finalFraction"],
  wsd: ["kind", "peak", "warmupSteps", "steps", "finalFraction", "decaySteps", "decay"],
};

/**
 * The learning rate of a step, in float64. Steps count from 0, as in transformers: with warm-up, step 0 has rate 0 and
 * step `warmupSteps` is the first with the peak. A decay reaches its end at step `steps`, one after the run's last, and
 * stays there. (`Math.cos` may differ in its last bit between JavaScript engines, and with it a cosine's rate.)
 * @param step a whole number from 0
 * @throws InputError as `checkSchedule` does, or for a bad step
 */
export function learningRate(schedule: Schedule, step: number): number {
  checkSchedule(schedule);
  must(Number.isSafeInteger(step) && step >= 0, "learningRate", "step", "a whole number from 0", step);
  const { peak, warmupSteps = 0 } = schedule;
  if (step < warmupSteps) return peak * (step / warmupSteps);
  if (schedule.kind === "constant") return peak;
  const { steps, finalFraction = 0 } = schedule;
  const first = schedule.kind === "wsd" ? steps - schedule.decaySteps : warmupSteps;
  const done = Math.min(1, Math.max(0, step - first) / (steps - first));
  const rest = left(schedule, done);
  return peak * (rest + finalFraction * (1 - rest));
}

/** How much of the way from the peak to the end is left when a share of the decay is done. */
function left(schedule: Exclude<Schedule, ConstantSchedule>, done: number): number {
  if (schedule.kind === "cosine") return (1 + Math.cos(Math.PI * done)) / 2;
  return schedule.kind === "wsd" && schedule.decay === "1-sqrt" ? 1 - Math.sqrt(done) : 1 - done;
}

/** @throws InputError for an unknown kind or field, or a value out of its range */
export function checkSchedule(schedule: Schedule): void {
  const fields = Object.hasOwn(FIELDS, schedule.kind) ? FIELDS[schedule.kind] : undefined;
  must(fields !== undefined, "schedule", "kind", Object.keys(FIELDS).join(", "), schedule.kind);
  const what = `${schedule.kind} schedule`;
  checkFields(what, schedule, fields!);
  const { peak, warmupSteps = 0 } = schedule;
  must(Number.isFinite(peak) && peak >= 0, what, "peak", "a finite number from 0", peak);
  must(
    Number.isSafeInteger(warmupSteps) && warmupSteps >= 0,
    what,
    "warmupSteps",
    "a whole number from 0",
    warmupSteps,
  );
  if (schedule.kind === "constant") return;
  const { steps, finalFraction = 0 } = schedule;
  must(
    Number.isSafeInteger(steps) && steps > warmupSteps,
    what,
    "steps",
    `a whole number above warmupSteps, which is ${warmupSteps}`,
    steps,
  );
  must(
    Number.isFinite(finalFraction) && finalFraction >= 0 && finalFraction <= 1,
    what,
    "finalFraction",
    "a number in [0, 1]",
    finalFraction,
  );
  if (schedule.kind !== "wsd") return;
  const { decaySteps, decay = "linear" } = schedule;
  must(
    Number.isSafeInteger(decaySteps) && decaySteps >= 1 && decaySteps <= steps - warmupSteps,
    what,
    "decaySteps",
    `a whole number from 1 to ${steps - warmupSteps}, the steps after warm-up`,
    decaySteps,
  );
  must(decay === "linear" || decay === "1-sqrt", what, "decay", `"linear" or "1-sqrt"`, decay);
}
