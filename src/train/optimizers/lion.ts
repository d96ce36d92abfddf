import { checkFields } from "../../errors.js";
import { average } from "../../kernels/reference/adamw.js";
import { rateOf } from "./float32.js";
import { type Grouping, optionsByParameter } from "./groups.js";
import { checkDecayRate, checkNonNegative } from "./hyper.js";
import { Optimizer, type Update } from "./optimizer.js";
import { checkSameLength, type Parameter } from "./parameter.js";

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

/**
 * One step of Lion, in place: algorithm 2 of Chen et al. 2023, "Symbolic discovery of optimization algorithms". Scalars
 * are computed in float64 and rounded to float32 once; every operation below is rounded to float32:
 *
 *     c ← average of m and g with β1         (see `average`)
 *     p ← (p · (1 − learningRate · weightDecay)) − (learningRate · sign(c))
 *     m ← average of m and g with β2
 *
 * @param param values [n]
 * @param grad their gradient [n]
 * @param m average of gradients [n], zeros before the first step
 * @throws InputError for a hyperparameter out of range or arrays of different lengths
 */
export function lionStep(param: Float32Array, grad: Float32Array, m: Float32Array, hyper: LionHyper): void {
  checkSameLength("lionStep", { param, grad, m });
  checkNonNegative("lion", "learningRate", hyper.learningRate);
  checkLion("lion", hyper);
  const decay = fround(1 - hyper.learningRate * hyper.weightDecay);
  const rate = fround(hyper.learningRate);
  const [direction, memory] = [rateOf(hyper.beta1), rateOf(hyper.beta2)];
  for (let i = 0; i < param.length; i++) {
    const sign = Math.sign(average(m[i], grad[i], direction));
    param[i] = fround(fround(param[i] * decay) - rate * sign);
    m[i] = average(m[i], grad[i], memory);
  }
}

/** Sign descent with momentum. State of a parameter: `m`. */
export class Lion extends Optimizer {
  /**
   * @param options `groups`: parameters with options of their own
   * @throws InputError for unknown options, values out of range, or parameters that do not fit
   */
  constructor(
    parameters: readonly Parameter[],
    { groups, ...options }: LionOptions & { readonly groups?: Grouping<LionOptions> } = {},
  ) {
    fillLion("lion", options);
    const optionsOf = optionsByParameter("lion", parameters, () => options, groups);
    super("lion", parameters, (parameter) => lionUpdate(parameter, optionsOf(parameter)));
  }
}

function lionUpdate(parameter: Parameter, options: LionOptions): Update {
  const hyper = fillLion(`lion, parameter "${parameter.name}"`, options);
  return {
    states: ["m"],
    learningRateScale: hyper.learningRateScale,
    apply: (value, gradient, [m], learningRate) => lionStep(value, gradient, m, { ...hyper, learningRate }),
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
