import { checkFields, InputError } from "../errors.js";
import type { LinearHead } from "../head/linear.js";
import type { Matrix } from "../kernels/device.js";
import { checkClassWeights } from "../kernels/validate-loss.js";

/** How rows' losses become one: their weighted mean, their sum, or not at all. */
export type Reduction = "mean" | "sum" | "none";

/** Options of `crossEntropy`, named as PyTorch names them. */
export interface CrossEntropyOptions<R extends Reduction = Reduction> {
  /** Rows with this target are left out, even when it is a token's id. Hard targets only; default -100. */
  readonly ignoreIndex?: number;
  /** ε in [0, 1]: targets become (1 − ε) · target + ε / V. Default 0. */
  readonly labelSmoothing?: number;
  /** β from 0: adds β · lse² to a row's loss (PaLM: 1e-4), which holds logits near 0. Default 0. */
  readonly zLoss?: number;
  /** [V], from 0; multiply each class's part of the loss. Default 1. */
  readonly classWeights?: Float32Array;
  /** Default "mean". */
  readonly reduction?: R;
  /** Which gradients are wanted; `true`: all that the head has. Default none. */
  readonly gradients?: boolean | CrossEntropyGradients;
  /** The gradient of what follows with respect to the loss; an array [N] for reduction "none" only. Default 1. */
  readonly gradOutput?: number | Float32Array | Float64Array | readonly number[];
  /**
   * Leaves out of the gradients of hidden states and weight the blocks of small probabilities, which are most of them
   * in a trained head: see `crossEntropy`. `true`: ε = 2^-12; a number: ε in [0, 1), where 0 leaves out nothing.
   * Default false.
   */
  readonly gradientFilter?: boolean | number;
  readonly signal?: AbortSignal;
}

/** Gradients that are wanted of `crossEntropy`; each is off by default. */
export interface CrossEntropyGradients {
  /**
   * `true`: returned, [N, D]. Or the Float32Array [N, D] that receives it and is returned: what stood there is lost (it is
   * not added to). A view of a `device.array` is written where it stands.
   */
  readonly hidden?: boolean | Float32Array;
  /** `true`: returned, [V, D]. A float32 matrix of the weight's shape on the head's device: added to, not returned. */
  readonly weight?: boolean | Matrix;
  readonly bias?: boolean;
}

/** What `gradientFilter: true` takes as ε: the paper's. */
const EPSILON = 2 ** -12;

/** Options after checks, with their defaults. */
export interface CrossEntropySettings {
  readonly reduction: Reduction;
  readonly wanted: {
    readonly hidden: boolean | Float32Array;
    readonly weight?: true | Matrix;
    readonly bias: boolean;
  };
  readonly zLoss: number;
  readonly ignoreIndex?: number;
  readonly labelSmoothing: number;
  readonly classWeights?: Float32Array;
  /** ε of the gradient filter. */
  readonly filter?: number;
}

/** @throws InputError for unknown options, and values out of range or that do not go together */
export function checkOptions(head: LinearHead, options: CrossEntropyOptions): CrossEntropySettings {
  checkFields("crossEntropy", options, [
    "ignoreIndex",
    "labelSmoothing",
    "zLoss",
    "classWeights",
    "reduction",
    "gradients",
    "gradOutput",
    "gradientFilter",
    "signal",
  ]);
  const { ignoreIndex, labelSmoothing = 0, zLoss = 0, classWeights, reduction = "mean" } = options;
  if (ignoreIndex !== undefined && !Number.isSafeInteger(ignoreIndex))
    throw new InputError(`crossEntropy: ignoreIndex: expected a whole number, got ${ignoreIndex}`);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new InputError(`crossEntropy: labelSmoothing: expected a number in [0, 1], got ${labelSmoothing}`);
  if (!(zLoss >= 0 && zLoss < Infinity))
    throw new InputError(`crossEntropy: zLoss: expected a finite number from 0, got ${zLoss}`);
  if (!["mean", "sum", "none"].includes(reduction))
    throw new InputError(
      `crossEntropy: reduction: expected mean, sum or none, got ${JSON.stringify(reduction)}`,
    );
  if (classWeights) checkClassWeights("crossEntropy", classWeights, head.vocabSize);
  const wanted = wantedGradients(head, options.gradients);
  if (options.gradOutput !== undefined && !(wanted.hidden || wanted.weight || wanted.bias))
    throw new InputError("crossEntropy: gradOutput scales gradients, but none were asked for");
  const filter = filterOf(options.gradientFilter, wanted, labelSmoothing);
  return { reduction, wanted, zLoss, ignoreIndex, labelSmoothing, classWeights, filter };
}

function filterOf(
  asked: CrossEntropyOptions["gradientFilter"] = false,
  { hidden, weight }: CrossEntropySettings["wanted"],
  labelSmoothing: number,
): number | undefined {
  if (asked === false) return undefined;
  const filter = asked === true ? EPSILON : asked;
  if (!(typeof filter === "number" && filter >= 0 && filter < 1))
    throw new InputError(
      `crossEntropy: gradientFilter: expected true, false or a number in [0, 1), got ${asked}`,
    );
  if (!(hidden || weight))
    throw new InputError(
      "crossEntropy: gradientFilter leaves out parts of the gradients of hidden states and weight, but neither was asked for",
    );
  if (labelSmoothing > 0)
    throw new InputError(
      "crossEntropy: gradientFilter does not go with labelSmoothing, which gives every id a small part that filtering would lose; leave one of them out",
    );
  return filter;
}

function wantedGradients(
  head: LinearHead,
  asked: CrossEntropyOptions["gradients"] = false,
): CrossEntropySettings["wanted"] {
  const { bias } = head.weights;
  if (asked === true) return { hidden: true, weight: true, bias: bias !== undefined };
  if (asked === false) return { hidden: false, bias: false };
  if (typeof asked !== "object" || asked === null)
    throw new InputError(
      `crossEntropy: gradients: expected true, false or { hidden, weight, bias }, got ${asked}`,
    );
  checkFields("crossEntropy: gradients", asked, ["hidden", "weight", "bias"]);
  if (asked.bias && !bias) throw new InputError("crossEntropy: gradients.bias: the head has no bias");
  const { hidden = false } = asked;
  if (typeof hidden !== "boolean" && !(hidden instanceof Float32Array))
    throw new InputError(
      `crossEntropy: gradients.hidden: expected true, false or a Float32Array that receives it, got ${hidden}`,
    );
  return { hidden, weight: asked.weight || undefined, bias: asked.bias ?? false };
}
