import { checkFields, InputError } from "../../errors.js";
import { average } from "../../kernels/reference/adamw.js";
import { type AdamWOptions, adamwUpdate, fillAdamW } from "./adamw.js";
import { rateOf } from "./float32.js";
import { type Grouping, optionsByParameter } from "./groups.js";
import { checkBoolean, checkDecayRate, checkNonNegative } from "./hyper.js";
import { newtonSchulz } from "./newton-schulz.js";
import { Optimizer, type Update } from "./optimizer.js";
import { checkSameLength, type Parameter } from "./parameter.js";

const { fround } = Math;

/**
 * What the learning rate of a matrix [rows, cols] is multiplied by: `original`, √max(1, rows / cols) (Keller Jordan);
 * `match_rms_adamw`, 0.2 · √max(rows, cols), so that updates are as large as AdamW's and one rate suits both
 * (Liu et al. 2025, "Muon is scalable for LLM training"). The names are those of `torch.optim.Muon`.
 */
export type MuonAdjustment = "original" | "match_rms_adamw";

/** Options of `Muon` for hidden matrices; the defaults are PyTorch's, but for `adjustLearningRate`. */
export interface MuonOptions {
  /** Decay of the average of gradients, in [0, 1). Default 0.95. */
  readonly momentum?: number;
  /** Looks one step ahead. Default true. */
  readonly nesterov?: boolean;
  /** A step takes this share of the value, times the (unadjusted) learning rate, from it. Default 0.1. */
  readonly weightDecay?: number;
  /** Default "match_rms_adamw", because one learning rate drives the matrices and AdamW's parameters; PyTorch's is "original". */
  readonly adjustLearningRate?: MuonAdjustment;
  /** Multiplies the learning rate. Default 1. */
  readonly learningRateScale?: number;
}

/** What `muonStep` needs besides arrays. */
export interface MuonHyper {
  readonly learningRate: number;
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  readonly adjustLearningRate: MuonAdjustment;
}

/**
 * One step of Muon on a hidden matrix, in place, as `torch.optim.Muon` takes it, with its Newton–Schulz iteration in
 * float32 instead of bfloat16. Scalars are computed in float64 and rounded to float32 once; every operation below is
 * rounded to float32:
 *
 *     b ← average of b and g with momentum                    (see `average`)
 *     u ← newtonSchulz(nesterov: average of b and g with momentum; else b)
 *     p ← (p · (1 − learningRate · weightDecay)) − (adjusted learningRate · u)
 *
 * @param param values [rows, cols]
 * @param grad their gradient [rows, cols]
 * @param buffer average of gradients [rows, cols], zeros before the first step
 * @param shape rows are outputs, columns inputs
 * @throws InputError for a hyperparameter out of range or arrays that do not fit the shape
 */
export function muonStep(
  param: Float32Array,
  grad: Float32Array,
  buffer: Float32Array,
  shape: readonly [number, number],
  hyper: MuonHyper,
): void {
  checkSameLength("muonStep", { param, grad, buffer });
  const [rows, cols] = shape;
  if (rows * cols !== param.length)
    throw new InputError(`muonStep: param holds ${param.length} numbers; its shape is [${rows}, ${cols}]`);
  checkNonNegative("muon", "learningRate", hyper.learningRate);
  checkMuon("muon", hyper);
  const momentum = rateOf(hyper.momentum);
  for (let i = 0; i < buffer.length; i++) buffer[i] = average(buffer[i], grad[i], momentum);
  const ahead = hyper.nesterov ? buffer.map((b, i) => average(b, grad[i], momentum)) : buffer;
  const update = newtonSchulz(ahead, rows, cols);
  const decay = fround(1 - hyper.learningRate * hyper.weightDecay);
  const rate = fround(hyper.learningRate * adjustment(hyper.adjustLearningRate, rows, cols));
  for (let i = 0; i < param.length; i++)
    param[i] = fround(fround(param[i] * decay) - fround(rate * update[i]));
}

function adjustment(kind: MuonAdjustment, rows: number, cols: number): number {
  return kind === "original" ? Math.sqrt(Math.max(1, rows / cols)) : 0.2 * Math.sqrt(Math.max(rows, cols));
}

/**
 * Momentum, orthogonalised, for hidden matrices; AdamW for vocabulary matrices and vectors. State of a matrix:
 * `momentum`; of another parameter: `m`, `v`.
 */
export class Muon extends Optimizer {
  /**
   * @param options `adamw`: options of all but hidden matrices; `groups`: parameters with options of their own, Muon's
   *   for a matrix and AdamW's for others
   * @throws InputError for unknown options, values out of range, or parameters that do not fit
   */
  constructor(
    parameters: readonly Parameter[],
    {
      adamw = {},
      groups,
      ...options
    }: MuonOptions & {
      readonly adamw?: AdamWOptions;
      readonly groups?: Grouping<MuonOptions | AdamWOptions>;
    } = {},
  ) {
    fillMuon("muon", options);
    fillAdamW("muon, adamw", adamw);
    const base = ({ kind }: Parameter) => (kind === "matrix" ? options : adamw);
    const optionsOf = optionsByParameter<MuonOptions | AdamWOptions>("muon", parameters, base, groups);
    super("muon", parameters, (parameter) =>
      parameter.kind === "matrix"
        ? muonUpdate(parameter, optionsOf(parameter))
        : adamwUpdate("muon (adamw)", parameter, optionsOf(parameter)),
    );
  }
}

function muonUpdate({ name, shape }: Parameter, options: MuonOptions): Update {
  const hyper = fillMuon(`muon, parameter "${name}"`, options);
  return {
    states: ["momentum"],
    learningRateScale: hyper.learningRateScale,
    apply: (value, gradient, [buffer], learningRate) =>
      muonStep(value, gradient, buffer, shape as readonly [number, number], { ...hyper, learningRate }),
  };
}

function fillMuon(what: string, options: MuonOptions): Required<MuonOptions> {
  checkFields(what, options, [
    "momentum",
    "nesterov",
    "weightDecay",
    "adjustLearningRate",
    "learningRateScale",
  ]);
  const {
    momentum = 0.95,
    nesterov = true,
    weightDecay = 0.1,
    adjustLearningRate = "match_rms_adamw",
    learningRateScale = 1,
  } = options;
  checkMuon(what, { momentum, nesterov, weightDecay, adjustLearningRate });
  checkNonNegative(what, "learningRateScale", learningRateScale);
  return { momentum, nesterov, weightDecay, adjustLearningRate, learningRateScale };
}

function checkMuon(what: string, hyper: Omit<MuonHyper, "learningRate">): void {
  checkDecayRate(what, "momentum", hyper.momentum);
  checkBoolean(what, "nesterov", hyper.nesterov);
  checkNonNegative(what, "weightDecay", hyper.weightDecay);
  const kind = hyper.adjustLearningRate;
  if (kind !== "original" && kind !== "match_rms_adamw")
    throw new InputError(
      `${what}: adjustLearningRate: expected "original" or "match_rms_adamw", got ${JSON.stringify(kind)}`,
    );
}
