import { checkFields, InputError } from "../../errors.js";
import type { MuonScalars } from "../../kernels/optimize.js";
import { muon } from "../../kernels/reference/muon.js";
import { type AdamWOptions, adamwUpdate, fillAdamW } from "./adamw.js";
import { rateOf } from "./float32.js";
import { bind, type Grouping } from "./groups.js";
import { checkBoolean, checkDecayRate, checkNonNegative, checkStep } from "./hyper.js";
import { Optimizer, type Update } from "./optimizer.js";
import { checkMatrices, checkSameLength, type Parameter } from "./parameter.js";

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
 * @param shape [rows, cols] of the matrix: rows are outputs, columns inputs
 * @throws InputError for a value out of its range
 */
export function muonScalars(hyper: MuonHyper, [rows, cols]: readonly [number, number]): MuonScalars {
  const { learningRate, weightDecay, momentum, nesterov, adjustLearningRate } = hyper;
  checkNonNegative("muon", "learningRate", learningRate);
  checkMuon("muon", hyper);
  return {
    rate: fround(learningRate * adjustment(adjustLearningRate, rows, cols)),
    decay: fround(1 - learningRate * weightDecay),
    momentum: rateOf(momentum),
    nesterov,
  };
}

/**
 * One step of Muon on a hidden matrix, in place, as `torch.optim.Muon` takes it, with its Newton–Schulz iteration in
 * float32 instead of bfloat16. The formula with its roundings, which `Device.update` has too, stands at `muon` in
 * src/kernels/reference/muon.ts.
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
  muon(param, grad, buffer, shape, muonScalars(hyper, shape));
}

function adjustment(kind: MuonAdjustment, rows: number, cols: number): number {
  return kind === "original" ? Math.sqrt(Math.max(1, rows / cols)) : 0.2 * Math.sqrt(Math.max(rows, cols));
}

/** Options of `Muon`, and those of the parameters that it leaves to AdamW. */
export interface MuonWithAdamWOptions extends MuonOptions {
  /** Options of all but hidden matrices. */
  readonly adamw?: AdamWOptions;
  /** Parameters with options of their own: Muon's for a matrix, AdamW's for others. */
  readonly groups?: Grouping<MuonOptions | AdamWOptions>;
}

/**
 * Momentum, orthogonalised, for hidden matrices; AdamW for vocabulary matrices and vectors. State of a matrix:
 * `momentum`; of another parameter: `m`, `v`.
 */
export class Muon extends Optimizer {
  /** @throws InputError for unknown options, values out of range, or parameters that do not fit */
  constructor(parameters: readonly Parameter[], options: MuonWithAdamWOptions = {}) {
    super("muon", parameters, bindMuon(parameters, options));
  }
}

/** @throws InputError as `Muon` does */
export function bindMuon(
  parameters: readonly Parameter[],
  { adamw = {}, groups, ...options }: MuonWithAdamWOptions,
): ReadonlyMap<string, Update> {
  fillMuon("muon", options);
  fillAdamW("muon, adamw", adamw);
  const base = ({ kind }: Parameter) => (kind === "matrix" ? options : adamw);
  return bind<MuonOptions | AdamWOptions>("muon", parameters, base, groups, (parameter, own) =>
    parameter.kind === "matrix" ? muonUpdate(parameter, own) : adamwUpdate("muon (adamw)", parameter, own),
  );
}

function muonUpdate(parameter: Parameter, options: MuonOptions): Update {
  const hyper = fillMuon(`muon, parameter "${parameter.name}"`, options);
  const shape = parameter.shape as readonly [number, number]; // checkParameters has seen it
  return {
    states: ["momentum"],
    learningRateScale: hyper.learningRateScale,
    apply: (value, gradient, [buffer], learningRate) =>
      muonStep(value, gradient, buffer, shape, { ...hyper, learningRate }),
    onDevice(value, gradient, states, learningRate, step, factor) {
      checkMatrices("muon", parameter, value, states, 1);
      checkStep("muon", step);
      const scalars = muonScalars({ ...hyper, learningRate }, shape);
      return { kind: "muon", value, gradient, momentum: states[0], scalars, factor };
    },
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
