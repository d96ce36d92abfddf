import { checkFields, InputError } from "../../errors.js";
import type { Matrix } from "../../kernels/device.js";
import type { MatrixUpdate } from "../../kernels/optimize.js";
import { checkNonNegative, must } from "./hyper.js";
import {
  checkFinite,
  checkMoments,
  checkTensors,
  type Parameter,
  sizeOf,
  type Tensors,
} from "./parameter.js";

export type OptimizerName = "adamw" | "sgd" | "lion" | "muon";

/** One parameter's formula with its options bound. */
export interface Update {
  /** Names of the state arrays it keeps, each as long as the parameter: `["m", "v"]`. */
  readonly states: readonly string[];
  /** The optimizer's learning rate is multiplied by it. */
  readonly learningRateScale: number;
  /**
   * Changes `value` and `states` in place.
   * @param states in the order of the names
   * @param learningRate already scaled
   * @param step counts from 1
   */
  apply(
    value: Float32Array,
    gradient: Float32Array,
    states: readonly Float32Array[],
    learningRate: number,
    step: number,
  ): void;
  /**
   * The same step for `Device.update`, of matrices where they stand: with the bits of `apply`.
   * @param value the parameter's matrix [rows, cols]; a vector's is [1, length]
   * @param states in the order of the names, of the value's shape; zeros before the first step
   * @param learningRate already scaled
   * @param step counts from 1
   * @param factor multiplies the gradient first, rounded to float32; 1: nothing
   * @throws InputError for a value of another shape, another number of states, or a rate or step out of range
   */
  onDevice(
    value: Matrix,
    gradient: Matrix,
    states: readonly Matrix[],
    learningRate: number,
    step: number,
    factor: number,
  ): MatrixUpdate;
}

/** All that an optimizer remembers between steps. */
export interface OptimizerState {
  readonly optimizer: OptimizerName;
  /** Steps taken. */
  readonly steps: number;
  /** `<parameter>.<state>` (as `wte.m`) → as many numbers as the parameter has. */
  readonly tensors: Tensors;
}

/** A parameter with what it is updated by, and its state. */
interface Slot {
  readonly parameter: Parameter;
  readonly update: Update;
  readonly states: readonly Float32Array[];
}

/**
 * Holds a state for each parameter and takes steps; the formulas are `adamwStep`, `sgdStep`, `lionStep`, `muonStep`.
 * Values and gradients stay the caller's. Every rounding is specified, so a step has the same bits everywhere.
 */
export abstract class Optimizer {
  /** Names of the parameters → how many numbers each has. */
  private readonly sizes: ReadonlyMap<string, number>;
  private readonly slots: readonly Slot[];
  private taken = 0;

  /** @param updates what each parameter is updated by, by name */
  protected constructor(
    /** Which optimizer it is; a state fits no other. */
    readonly name: OptimizerName,
    parameters: readonly Parameter[],
    updates: ReadonlyMap<string, Update>,
  ) {
    this.sizes = new Map(parameters.map((parameter) => [parameter.name, sizeOf(parameter)]));
    this.slots = parameters.map((parameter) => {
      const update = updates.get(parameter.name)!;
      return { parameter, update, states: update.states.map(() => new Float32Array(sizeOf(parameter))) };
    });
  }

  /** Steps taken so far, and so the 0-based number of the next: `learningRate(schedule, optimizer.steps)`. */
  get steps(): number {
    return this.taken;
  }

  /**
   * One step, in place.
   * @param values every parameter's numbers, by name
   * @param gradients every parameter's gradient of the loss, by name; not changed
   * @param learningRate from 0 to 1e30; at 0 only the state changes
   * @throws InputError, before anything has changed, for a rate out of range or arrays that are missing, unknown, of
   *   another length or not finite; afterwards when the step left float32's range: then the values and the state are
   *   lost, and a checkpoint has to be restored
   */
  step(values: Tensors, gradients: Tensors, learningRate: number): void {
    const step = this.taken + 1;
    const what = `${this.name} step ${step}`;
    checkNonNegative(what, "learningRate", learningRate);
    for (const { parameter, update } of this.slots)
      checkNonNegative(
        what,
        `learningRate of "${parameter.name}", scaled`,
        learningRate * update.learningRateScale,
      );
    checkTensors(`${what}, values`, values, this.sizes);
    checkTensors(`${what}, gradients`, gradients, this.sizes);
    for (const { parameter, update, states } of this.slots) {
      const value = values.get(parameter.name)!;
      update.apply(
        value,
        gradients.get(parameter.name)!,
        states,
        learningRate * update.learningRateScale,
        step,
      );
      const after = `${what} left the range of float32; restore a checkpoint and take a lower learning rate`;
      checkFinite(after, parameter.name, value);
      for (const [i, state] of states.entries()) checkFinite(after, stateName(parameter, update, i), state);
    }
    this.taken = step;
  }

  /** A copy of the state, for a checkpoint. */
  exportState(): OptimizerState {
    const tensors = new Map<string, Float32Array>();
    for (const { parameter, update, states } of this.slots)
      for (const [i, state] of states.entries()) tensors.set(stateName(parameter, update, i), state.slice());
    return { optimizer: this.name, steps: this.taken, tensors };
  }

  /**
   * Goes on from a state: every later step has the bits it would have had where the state was exported.
   * Options are not part of a state; give the constructor the same.
   * @throws InputError, before anything has changed, for another optimizer's state, a bad count of steps, or tensors that
   *   are missing, unknown, of another length or not finite, or a second moment below 0
   */
  importState(state: OptimizerState): void {
    const what = `${this.name} state`;
    checkFields(what, state, ["optimizer", "steps", "tensors"]);
    if (state.optimizer !== this.name)
      throw new InputError(
        `${what}: expected a state of ${this.name}, got one of ${JSON.stringify(state.optimizer)}`,
      );
    must(
      Number.isSafeInteger(state.steps) && state.steps >= 0,
      what,
      "steps",
      "a whole number from 0",
      state.steps,
    );
    const lengths = new Map<string, number>();
    for (const { parameter, update } of this.slots)
      for (const i of update.states.keys()) lengths.set(stateName(parameter, update, i), sizeOf(parameter));
    checkTensors(what, state.tensors, lengths);
    for (const { parameter, update } of this.slots) {
      if (update.states.includes("v")) checkMoments(what, parameter.name, state.tensors);
    }
    for (const { parameter, update, states } of this.slots)
      for (const [i, array] of states.entries())
        array.set(state.tensors.get(stateName(parameter, update, i))!);
    this.taken = state.steps;
  }
}

function stateName(parameter: Parameter, update: Update, i: number): string {
  return `${parameter.name}.${update.states[i]}`;
}
