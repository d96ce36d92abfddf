import { checkSchedule, type Schedule } from "../schedules.js";
import type { FilledSettings } from "./settings.js";

/** Steps of a run. @param epochsAStep of the training text */
export function stepsOf({ steps, epochs }: FilledSettings, epochsAStep: number): number {
  return epochs === undefined ? steps : Math.max(1, Math.ceil(epochs / epochsAStep - 1e-9));
}

/** The learning rate's schedule, by the settings. @throws InputError when its parts do not fit into the steps */
export function scheduleOf(settings: FilledSettings, steps: number): Schedule {
  const { schedule: kind, learningRate: peak, finalFraction } = settings;
  const { warmupSteps = Math.min(200, Math.floor(steps / 20)) } = settings;
  const { decaySteps = Math.max(1, Math.floor(steps / 5)) } = settings;
  const schedule: Schedule =
    kind === "constant"
      ? { kind, peak, warmupSteps }
      : kind === "wsd"
        ? { kind, peak, warmupSteps, steps, finalFraction, decaySteps }
        : { kind, peak, warmupSteps, steps, finalFraction };
  checkSchedule(schedule);
  return schedule;
}
