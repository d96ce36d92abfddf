import { checkFields } from "../../errors.js";
import type { LionScalars } from "../../kernels/optimize.js";
import { lion } from "../../kernels/reference/lion.js";
import { rateOf } from "./float32.js";
import { bind, type Grouping } from "./groups.js";
import { checkDecayRate, checkNonNegative, checkStep } from "./hyper.js";
import { Optimizer, type Update } from "./optimizer.js";
import { checkMatrices, checkSameLength, type Parameter } from "./parameter.js";

const { fround } = Math;

/** Options of `Lion`; the defaults are those of the paper's program. Rates are some 3 to 10 times lower than AdamW's. */
export interface LionOptions {
  /** Weight of the average in the direction, in [0, 1). Default 0.9. */
  readonly beta1?: number;
  /** Decay of the average of gradients, in [0, 1). Default 0.99. */
  readonly beta2?: number;
  /** A step takes this share of the value, times the learning rate, from it. Default 0; vectors always 0 unless a group says otherwise. */
  readonly weightDecay?: number;
  /** Multiplies the learning rate. Default 1. */
  readonly learningRateScale?: number;
}

/** What `lionStep` needs besides arrays. */
export interface LionHyper {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly weightDecay: number;
}

/** @throws InputError for a value out of its range */
export function lionScalars(hyper: LionHyper): LionScalars {
  const { learningRate, beta1, beta2, weightDecay } = hyper;
  checkNonNegative("lion", "learningRate", learningRate);
  checkLion("lion", hyper);
  return {
    rate: fround(learningRate),
    decay: fround(1 - learningRate * weightDecay),
    direction: rateOf(beta1),
    memory: rateOf(beta2),
  };
}

/**
 * One step of Lion, in place: algorithm 2 of Chen et al. 2023, "Symbolic discovery of optimization algorithms". The formula
 * with its roundings, which `Device.update` has too, stands at `lion` in src/kernels/reference/lion.ts.
 *
 * @param param values [n]
 * @param grad their gradient [n]
 * @param m average of gradients [n], zeros before the first step
 * @throws InputError for a hyperparameter out of range or arrays of different lengths
 */
export function lionStep(param: Float32Array, grad: Float32Array, m: Float32Array, hyper: LionHyper): void {
  checkSameLength("lionStep", { param, grad, m });
  lion(param, grad, m, lionScalars(hyper));
}

/** Sign descent with momentum. State of a parameter: `m`. */
export class Lion extends Optimizer {
  /**
   * @param options `groups`: parameters with options of their own
   * @throws InputError for unknown options, values out of range, or parameters that do not fit
   */
  constructor(
    parameters: readonly Parameter[],
    options: LionOptions & { readonly groups?: Grouping<LionOptions> } = {},
  ) {
    super("lion", parameters, bindLion(parameters, options));
  }
}

/** @throws InputError as `Lion` does */
export function bindLion(
  parameters: readonly Parameter[],
  { groups, ...options }: LionOptions & { readonly groups?: Grouping<LionOptions> },
): ReadonlyMap<string, Update> {
  fillLion("lion", options);
  return bind("lion", parameters, () => options, groups, lionUpdate);
}

function lionUpdate(parameter: Parameter, options: LionOptions): Update {
  const hyper = fillLion(`lion, parameter "${parameter.name}"`, options);
  return {
    states: ["m"],
    learningRateScale: hyper.learningRateScale,
    apply: (value, gradient, [m], learningRate) => lionStep(value, gradient, m, { ...hyper, learningRate }),
    onDevice(value, gradient, states, learningRate, step, factor) {
      checkMatrices("lion", parameter, value, states, 1);
      checkStep("lion", step);
      const scalars = lionScalars({ ...hyper, learningRate });
      return { kind: "lion", value, gradient, m: states[0], scalars, factor };
    },
  };
}

function fillLion(what: string, options: LionOptions): Required<LionOptions> {
  checkFields(what, options, ["beta1", "beta2", "weightDecay", "learningRateScale"]);
  const { beta1 = 0.9, beta2 = 0.99, weightDecay = 0, learningRateScale = 1 } = options;
  checkLion(what, { beta1, beta2, weightDecay });
  checkNonNegative(what, "learningRateScale", learningRateScale);
  return { beta1, beta2, weightDecay, learningRateScale };
}

function checkLion(what: string, hyper: Omit<LionHyper, "learningRate">): void {
  checkDecayRate(what, "beta1", hyper.beta1);
  checkDecayRate(what, "beta2", hyper.beta2);
  checkNonNegative(what, "weightDecay", hyper.weightDecay);
}
