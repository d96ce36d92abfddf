import type { HeadWeights, Matrix } from "./device.js";

/**
 * What a device is asked about linear + cross-entropy (its arrays must stay unchanged until the promise settles): the numbers of which every loss on a head is made, and the
 * gradients of
 *
 *     L = Σ_n ( Σ_j coefficients[n, j] · (lse_n − y[n, ids[n, j]]) + uniform[n] · Σ_c classWeights[c] · (lse_n − y[n, c])
 *             + soft[n] · Σ_c t[n, c] · (lse_n − y[n, c]) + squares[n] · lse_n² )
 *
 * with y the final logits (after bias, scale and cap), lse_n = ln Σ_c exp y[n, c] and t the teacher's probabilities.
 * Reductions, label smoothing and class weights are a matter of the coefficients: see `src/train/cross-entropy.ts`.
 */
export interface LossQuery {
  /** [N, perRow] ids below vocabSize; an id may be repeated. */
  readonly ids: Int32Array;
  /** From 0. */
  readonly perRow: number;
  /** [N, perRow] */
  readonly coefficients: Float32Array;
  /** [N]; absent: 0. */
  readonly uniform?: Float32Array;
  /** [vocabSize], from 0; absent: 1. Used with `uniform` only. */
  readonly classWeights?: Float32Array;
  /** [N]; absent: 0. */
  readonly squares?: Float32Array;
  /** A second head with its own hidden states [N, its D], and [N] coefficients; of the same vocabSize. */
  readonly teacher?: {
    readonly head: HeadWeights;
    readonly hidden: Float32Array;
    readonly soft: Float32Array;
  };
  readonly gradients: LossGradients;
}

/** Which gradients of L are wanted. After a call that failed or was aborted, what stands in them is not to be used. */
export interface LossGradients {
  /** `true`: into a new array. Or the array [N, D] that receives it: what stood there is lost (it is not added to). */
  readonly hidden: boolean | Float32Array;
  /** A float32 matrix of the weight's shape, on the same device: its gradient is added to it. */
  readonly weight?: Matrix;
  /** An array [vocabSize]: the bias's gradient is added to it. */
  readonly bias?: Float32Array;
  /**
   * ε in [0, 1) of the gradient filter (Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models",
   * section 4.3). A block is one row by the 16 ids 16·i … 16·i + 15. A block is left out of the gradients of hidden states
   * and weight (never of the bias's) when all its probabilities, the head's and the teacher's, are below ε and none of
   * its ids is one of the row's `ids` with a coefficient other than 0. Not with `uniform`, whose small parts would be lost,
   * and they add up. Absent or 0: nothing is left out.
   */
  readonly filter?: number;
}

export interface LossAnswer {
  /** [N], natural logarithm of Σ exp(logit). */
  readonly logSumExp: Float64Array;
  /** [N, perRow], the final logits of `ids`. */
  readonly targetLogits: Float32Array;
  /** [N], Σ_c classWeights[c] · y[n, c]; there when `uniform` was given. */
  readonly weightedLogits?: Float64Array;
  /** [N], Σ_c t[n, c] · y[n, c]; there when `teacher` was given. A logit of -Infinity with t = 0 counts as 0. */
  readonly teacherLogits?: Float64Array;
  /** [N, D]; there when asked: the array that was given for it, or a new one. */
  readonly dHidden?: Float32Array;
  /** Share of the blocks that the gradient filter left out, in [0, 1]; there when it was given. */
  readonly filtered?: number;
}

/** Ids of a block of the gradient filter: a panel's rows. */
export const FILTER_IDS = 16;

/** The arrays of a call of `Device.loss` that are used where they stand, by their names. */
export function lossArrays(hidden: Float32Array, query: LossQuery): Record<string, unknown> {
  return {
    hidden,
    "teacher.hidden": query.teacher?.hidden,
    "gradients.hidden": query.gradients?.hidden,
  };
}
