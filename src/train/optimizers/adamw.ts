import { checkFields } from "../../errors.js";
import type { AdamWScalars } from "../../kernels/optimize.js";
import { adamw } from "../../kernels/reference/adamw.js";
import { power, rateOf } from "./float32.js";
import { bind, type Grouping } from "./groups.js";
import { checkDecayRate, checkNonNegative, checkNumber, checkStep } from "./hyper.js";
import { Optimizer, type Update } from "./optimizer.js";
import { checkMatrices, checkSameLength, type Parameter } from "./parameter.js";

const { fround } = Math;

/** Options of `AdamW`; the defaults are PyTorch's. */
export interface AdamWOptions {
  /** Decay of the average of gradients, in [0, 1). Default 0.9. */
  readonly beta1?: number;
  /** Decay of the average of their squares, in [0, 1). Default 0.999. */
  readonly beta2?: number;
  /** Added to the root of that average, from 1e-20 to 1. Default 1e-8. */
  readonly eps?: number;
  /** A step takes this share of the value, times the learning rate, from it. Default 0.01; vectors 0. */
  readonly weightDecay?: number;
  /** Multiplies the learning rate. Default 1. */
  readonly learningRateScale?: number;
}

/** What `adamwStep` needs besides arrays. */
export interface AdamWHyper {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  /** Counts from 1: the bias correction divides by 1 − β^step. */
  readonly step: number;
}

/** @throws InputError for a value out of its range */
export function adamwScalars(hyper: AdamWHyper): AdamWScalars {
  const { learningRate, beta1, beta2, eps, weightDecay, step } = hyper;
  checkNonNegative("adamw", "learningRate", learningRate);
  checkAdamW("adamw", hyper);
  checkStep("adamw", step);
  return {
    decay: fround(1 - learningRate * weightDecay),
    m: rateOf(beta1),
    v: rateOf(beta2),
    root: fround(Math.sqrt(1 - power(beta2, step))),
    eps: fround(eps),
    size: fround(learningRate / (1 - power(beta1, step))),
  };
}

/**
 * One step of AdamW, in place: Loshchilov and Hutter 2019 in the form of `torch.optim.AdamW`. The formula with its
 * roundings, which `Device.update` has too, stands at `adamw` in src/kernels/reference/adamw.ts.
 *
 * @param param values [n]
 * @param grad their gradient [n]
 * @param m average of gradients [n], zeros before the first step
 * @param v average of squared gradients [n], zeros before the first step
 * @throws InputError for a hyperparameter out of range or arrays of different lengths
 */
export function adamwStep(
  param: Float32Array,
  grad: Float32Array,
  m: Float32Array,
  v: Float32Array,
  hyper: AdamWHyper,
): void {
  checkSameLength("adamwStep", { param, grad, m, v });
  const s = adamwScalars(hyper);
  adamw(param, grad, m, v, s);
}

/** Adam with decoupled weight decay. State of a parameter: `m`, `v`. */
export class AdamW extends Optimizer {
  /**
   * @param options `groups`: parameters with options of their own
   * @throws InputError for unknown options, values out of range, or parameters that do not fit
   */
  constructor(
    parameters: readonly Parameter[],
    options: AdamWOptions & { readonly groups?: Grouping<AdamWOptions> } = {},
  ) {
    super("adamw", parameters, bindAdamW(parameters, options));
  }
}

/** @throws InputError as `AdamW` does */
export function bindAdamW(
  parameters: readonly Parameter[],
  { groups, ...options }: AdamWOptions & { readonly groups?: Grouping<AdamWOptions> },
): ReadonlyMap<string, Update> {
  fillAdamW("adamw", options);
  return bind(
    "adamw",
    parameters,
    () => options,
    groups,
    (parameter, own) => adamwUpdate("adamw", parameter, own),
  );
}

/** The update of one parameter, options checked. `what` names the optimizer in errors. */
export function adamwUpdate(what: string, parameter: Parameter, options: AdamWOptions): Update {
  const hyper = fillAdamW(`${what}, parameter "${parameter.name}"`, options);
  return {
    states: ["m", "v"],
    learningRateScale: hyper.learningRateScale,
    apply: (value, gradient, [m, v], learningRate, step) =>
      adamwStep(value, gradient, m, v, { ...hyper, learningRate, step }),
    onDevice(value, gradient, states, learningRate, step, factor) {
      checkMatrices(what, parameter, value, states, 2);
      const [m, v] = states;
      const scalars = adamwScalars({ ...hyper, learningRate, step });
      return { kind: "adamw", value, gradient, m, v, scalars, factor };
    },
  };
}

/** Fills in defaults. @throws InputError for an unknown option or a value out of its range */
export function fillAdamW(what: string, options: AdamWOptions): Required<AdamWOptions> {
  checkFields(what, options, ["beta1", "beta2", "eps", "weightDecay", "learningRateScale"]);
  const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0.01, learningRateScale = 1 } = options;
  checkAdamW(what, { beta1, beta2, eps, weightDecay });
  checkNonNegative(what, "learningRateScale", learningRateScale);
  return { beta1, beta2, eps, weightDecay, learningRateScale };
}

function checkAdamW(what: string, hyper: Pick<AdamWHyper, "beta1" | "beta2" | "eps" | "weightDecay">): void {
  checkDecayRate(what, "beta1", hyper.beta1);
  checkDecayRate(what, "beta2", hyper.beta2);
  // Below a gradient of about 1e-21 its square is 0 in float32: a smaller eps would make huge steps of tiny gradients.
  checkNumber(what, "eps", hyper.eps, hyper.eps >= 1e-20 && hyper.eps <= 1, "a number from 1e-20 to 1");
  checkNonNegative(what, "weightDecay", hyper.weightDecay);
}
