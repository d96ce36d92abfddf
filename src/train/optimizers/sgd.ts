import { checkFields, InputError } from "../../errors.js";
import type { SgdScalars } from "../../kernels/optimize.js";
import { sgd } from "../../kernels/reference/sgd.js";
import { bind, type Grouping } from "./groups.js";
import { checkBoolean, checkDecayRate, checkNonNegative, checkNumber, checkStep } from "./hyper.js";
import { Optimizer, type Update } from "./optimizer.js";
import { checkMatrices, checkSameLength, type Parameter } from "./parameter.js";

const { fround } = Math;

/** Options of `Sgd`; the defaults are PyTorch's. */
export interface SgdOptions {
  /** Decay of the sum of gradients, in [0, 1). Default 0: no momentum, and no state. */
  readonly momentum?: number;
  /** A gradient enters the sum times 1 − dampening (the first one whole), in [0, 1]. Default 0. */
  readonly dampening?: number;
  /** Looks one step ahead; needs momentum, and dampening 0. Default false. */
  readonly nesterov?: boolean;
  /** Adds this share of the value to the gradient: L2, not decoupled, as in PyTorch. Default 0; vectors always 0 unless a group says otherwise. */
  readonly weightDecay?: number;
  /** Multiplies the learning rate. Default 1. */
  readonly learningRateScale?: number;
}

/** What `sgdStep` needs besides arrays. */
export interface SgdHyper {
  readonly learningRate: number;
  readonly momentum: number;
  readonly dampening: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  /** Counts from 1; the first step has no dampening. */
  readonly step: number;
}

/** @throws InputError for a value out of its range */
export function sgdScalars(hyper: SgdHyper): SgdScalars {
  checkNonNegative("sgd", "learningRate", hyper.learningRate);
  checkSgd("sgd", hyper);
  checkStep("sgd", hyper.step);
  return {
    rate: fround(hyper.learningRate),
    decay: fround(hyper.weightDecay),
    momentum: fround(hyper.momentum),
    share: fround(hyper.step === 1 ? 1 : 1 - hyper.dampening),
    nesterov: hyper.nesterov,
  };
}

/**
 * One step of stochastic gradient descent, in place, as `torch.optim.SGD` takes it. The formula with its roundings, which
 * `Device.update` has too, stands at `sgd` in src/kernels/reference/sgd.ts; the first step has no dampening.
 *
 * @param param values [n]
 * @param grad their gradient [n]
 * @param buffer decaying sum of gradients [n], zeros before the first step; undefined without momentum
 * @throws InputError for a hyperparameter out of range, arrays of different lengths, or momentum without a buffer
 */
export function sgdStep(
  param: Float32Array,
  grad: Float32Array,
  buffer: Float32Array | undefined,
  hyper: SgdHyper,
): void {
  checkSameLength("sgdStep", { param, grad, ...(buffer && { buffer }) });
  const scalars = sgdScalars(hyper);
  if (hyper.momentum > 0 !== (buffer !== undefined))
    throw new InputError(
      `sgdStep: momentum ${hyper.momentum} ${buffer ? "keeps no buffer; pass undefined" : "needs a buffer as long as param"}`,
    );
  sgd(param, grad, buffer, scalars);
}

/** Stochastic gradient descent. State of a parameter: `momentum` where it has momentum, else none. */
export class Sgd extends Optimizer {
  /**
   * @param options `groups`: parameters with options of their own
   * @throws InputError for unknown options, values out of range, or parameters that do not fit
   */
  constructor(
    parameters: readonly Parameter[],
    options: SgdOptions & { readonly groups?: Grouping<SgdOptions> } = {},
  ) {
    super("sgd", parameters, bindSgd(parameters, options));
  }
}

/** @throws InputError as `Sgd` does */
export function bindSgd(
  parameters: readonly Parameter[],
  { groups, ...options }: SgdOptions & { readonly groups?: Grouping<SgdOptions> },
): ReadonlyMap<string, Update> {
  fillSgd("sgd", options);
  return bind("sgd", parameters, () => options, groups, sgdUpdate);
}

function sgdUpdate(parameter: Parameter, options: SgdOptions): Update {
  const hyper = fillSgd(`sgd, parameter "${parameter.name}"`, options);
  const names = hyper.momentum > 0 ? ["momentum"] : [];
  return {
    states: names,
    learningRateScale: hyper.learningRateScale,
    apply: (value, gradient, [buffer], learningRate, step) =>
      sgdStep(value, gradient, buffer, { ...hyper, learningRate, step }),
    onDevice(value, gradient, states, learningRate, step, factor) {
      checkMatrices("sgd", parameter, value, states, names.length);
      const [momentum] = states;
      const scalars = sgdScalars({ ...hyper, learningRate, step });
      return { kind: "sgd", value, gradient, ...(momentum && { momentum }), scalars, factor };
    },
  };
}

function fillSgd(what: string, options: SgdOptions): Required<SgdOptions> {
  checkFields(what, options, ["momentum", "dampening", "nesterov", "weightDecay", "learningRateScale"]);
  const { momentum = 0, dampening = 0, nesterov = false, weightDecay = 0, learningRateScale = 1 } = options;
  checkSgd(what, { momentum, dampening, nesterov, weightDecay });
  checkNonNegative(what, "learningRateScale", learningRateScale);
  return { momentum, dampening, nesterov, weightDecay, learningRateScale };
}

function checkSgd(what: string, hyper: Omit<SgdHyper, "learningRate" | "step">): void {
  const { momentum, dampening, nesterov, weightDecay } = hyper;
  checkDecayRate(what, "momentum", momentum);
  checkNumber(what, "dampening", dampening, dampening >= 0 && dampening <= 1, "a number in [0, 1]");
  checkBoolean(what, "nesterov", nesterov);
  checkNonNegative(what, "weightDecay", weightDecay);
  if (nesterov && (momentum === 0 || dampening !== 0))
    throw new InputError(
      `${what}: nesterov needs momentum above 0 and dampening 0, got momentum ${momentum} and dampening ${dampening}`,
    );
  if (dampening !== 0 && momentum === 0)
    throw new InputError(`${what}: dampening ${dampening} does nothing without momentum; set momentum`);
}
