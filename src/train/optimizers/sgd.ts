import { checkFields, InputError } from "../../errors.js";
import { type Grouping, optionsByParameter } from "./groups.js";
import { checkBoolean, checkDecayRate, checkNonNegative, checkNumber, checkStep } from "./hyper.js";
import { Optimizer, type Update } from "./optimizer.js";
import { checkSameLength, type Parameter } from "./parameter.js";

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

/**
 * One step of stochastic gradient descent, in place, as `torch.optim.SGD` takes it. Scalars are computed in float64 and
 * rounded to float32 once; every operation below is rounded to float32, in the order of the brackets:
 *
 *     d ← g + (weightDecay · p)
 *     b ← (momentum · b) + ((1 − dampening) · d)      with momentum; the first step has no dampening
 *     d ← nesterov: d + (momentum · b); else b
 *     p ← p − (learningRate · d)
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
  checkNonNegative("sgd", "learningRate", hyper.learningRate);
  checkSgd("sgd", hyper);
  checkStep("sgd", hyper.step);
  if (hyper.momentum > 0 !== (buffer !== undefined))
    throw new InputError(
      `sgdStep: momentum ${hyper.momentum} ${buffer ? "keeps no buffer; pass undefined" : "needs a buffer as long as param"}`,
    );
  const rate = fround(hyper.learningRate);
  const decay = fround(hyper.weightDecay);
  const momentum = fround(hyper.momentum);
  const share = fround(hyper.step === 1 ? 1 : 1 - hyper.dampening);
  for (let i = 0; i < param.length; i++) {
    let d = fround(grad[i] + fround(decay * param[i]));
    if (buffer) {
      buffer[i] = fround(fround(momentum * buffer[i]) + fround(share * d));
      d = hyper.nesterov ? fround(d + fround(momentum * buffer[i])) : buffer[i];
    }
    param[i] = fround(param[i] - fround(rate * d));
  }
}

/** Stochastic gradient descent. State of a parameter: `momentum` where it has momentum, else none. */
export class Sgd extends Optimizer {
  /**
   * @param options `groups`: parameters with options of their own
   * @throws InputError for unknown options, values out of range, or parameters that do not fit
   */
  constructor(
    parameters: readonly Parameter[],
    { groups, ...options }: SgdOptions & { readonly groups?: Grouping<SgdOptions> } = {},
  ) {
    fillSgd("sgd", options);
    const optionsOf = optionsByParameter("sgd", parameters, () => options, groups);
    super("sgd", parameters, (parameter) => sgdUpdate(parameter, optionsOf(parameter)));
  }
}

function sgdUpdate(parameter: Parameter, options: SgdOptions): Update {
  const hyper = fillSgd(`sgd, parameter "${parameter.name}"`, options);
  return {
    states: hyper.momentum > 0 ? ["momentum"] : [],
    learningRateScale: hyper.learningRateScale,
    apply: (value, gradient, [buffer], learningRate, step) =>
      sgdStep(value, gradient, buffer, { ...hyper, learningRate, step }),
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
