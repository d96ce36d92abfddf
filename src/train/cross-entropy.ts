import { InputError } from "../errors.js";
import type { LinearHead } from "../head/linear.js";
import { withArrays } from "../kernels/arrays.js";
import type { Device, Matrix } from "../kernels/device.js";
import type { LossAnswer, LossQuery } from "../kernels/loss.js";
import { checkReceiver } from "../kernels/validate-loss.js";
import { type CrossEntropyOptions, checkOptions, type Reduction } from "./cross-entropy-options.js";
import { putRows, type Rows, rowsOf, type Targets, takeRows } from "./targets.js";

export type { CrossEntropyGradients, CrossEntropyOptions, Reduction } from "./cross-entropy-options.js";

/** What `crossEntropy` gives; a gradient is there when it was asked for. */
export interface CrossEntropy<R extends Reduction = Reduction> {
  /** In nats: a number, or for reduction "none" [N], 0 for ignored rows. */
  readonly loss: R extends "none" ? Float64Array : number;
  /** Rows that were not ignored. */
  readonly count: number;
  /** [N, D]; zeros for ignored rows. */
  readonly hidden?: Float32Array;
  /** [V, D] */
  readonly weight?: Float32Array;
  /** [V] */
  readonly bias?: Float32Array;
  /** Share of the blocks that the gradient filter left out, in [0, 1]; there with `gradientFilter`. */
  readonly filtered?: number;
}

/**
 * Cross-entropy of a head's logits and its gradients, in one call and without ever holding N×V numbers. The semantics
 * are those of `torch.nn.functional.cross_entropy` on the head's final logits (after bias, scale and cap) and of CCE's
 * z-loss. For row n with target y, ε = labelSmoothing and w = classWeights,
 *
 *     loss_n = (1 − ε) · w_y · (lse − logit_y) + (ε / V) · Σ_c w_c · (lse − logit_c) + zLoss · lse²
 *
 * and for soft targets t the first term is (1 − ε) · Σ_c w_c · t_c · (lse − logit_c). Reduction "mean" divides by Σ w_y
 * over the rows that are kept; soft targets, and always the z-loss, by their number. Two differences from PyTorch: when
 * every row is ignored (or there is none) the loss is 0 and so are the gradients, where PyTorch gives NaN; and an
 * infinite loss (a target that is masked by a bias of -Infinity) is an error. The loss is summed in float64 from the
 * device's answer. The arrays given must stay unchanged until the promise settles.
 *
 * Nothing of the weight's size is copied when `gradients.weight` is a matrix on the device. Hidden states and their
 * gradient need not be copied either: any library's arrays may be written into and read from views of the device's memory
 * (`device.array`), given as `hidden` and `gradients.hidden`. They are used in place when D is a multiple of 16 and no
 * row is ignored; the bits are the same always.
 *
 * `gradientFilter` is the gradient filtering of Cut Cross-Entropy (Wijmans et al. 2024, "Cut Your Losses in
 * Large-Vocabulary Language Models", section 4.3; `filter_eps` of its program). A block, here one row by 16 neighbouring
 * ids, is left out of the gradients of hidden states and weight when all its probabilities, the head's and a teacher's,
 * are below ε and no target of the row is in it. The loss and the bias's gradient stay exact. The gradients lose what
 * the tail of small probabilities adds up to (docs/guide.md has numbers): it is for heads that are trained. An untrained
 * head's probabilities are all near 1 / V, so that only targets would be left, and tokens that are no targets would never
 * be pushed down.
 *
 * @param hidden [N, D], row-major; of ignored rows not even looked at
 * @param targets ids [N]; or probabilities of some ids of each row; or a teacher: a head on the same device with its
 * own hidden states, whose softmax is the target
 * @throws InputError for unknown options, values out of range, lengths that do not fit, targets outside the
 * vocabulary, rows that are not finite, an infinite loss. AbortError when the signal fires.
 * @example
 * const { loss, hidden: dHidden } = await crossEntropy(head, hidden, ids, { gradients: { hidden: true } });
 * @example
 * const [hidden, dHidden] = [head.device.array(N * D), head.device.array(N * D)];
 * hidden.data.set(mine);
 * await crossEntropy(head, hidden.data, ids, { gradients: { hidden: dHidden.data, weight: gradientMatrix } });
 */
export async function crossEntropy<R extends Reduction = "mean">(
  head: LinearHead,
  hidden: Float32Array,
  targets: Targets,
  options: CrossEntropyOptions<R> = {},
): Promise<CrossEntropy<R>> {
  const views = { hidden, "gradients.hidden": given(options.gradients) };
  return withArrays(views, () => onHeldArrays(head, hidden, targets, options));
}

/** The array that is to receive the hidden states' gradient, where there is one. */
function given(gradients: CrossEntropyOptions["gradients"]): Float32Array | undefined {
  const hidden = typeof gradients === "object" ? gradients?.hidden : undefined;
  return hidden instanceof Float32Array ? hidden : undefined;
}

/** `crossEntropy`, while the device arrays among its arguments can't go away. */
async function onHeldArrays<R extends Reduction>(
  head: LinearHead,
  hidden: Float32Array,
  targets: Targets,
  options: CrossEntropyOptions<R>,
): Promise<CrossEntropy<R>> {
  const { device, vocabSize, hiddenSize: D } = head;
  const { reduction, wanted, zLoss, filter, ...settings } = checkOptions(head, options);
  if (!(hidden instanceof Float32Array) || hidden.length % D !== 0)
    throw new InputError(
      `crossEntropy: hidden: expected a Float32Array of whole rows of ${D} numbers, got ${hidden?.length} numbers`,
    );
  const N = hidden.length / D;
  const into = given(options.gradients);
  if (into)
    checkReceiver("crossEntropy", into, hidden, {
      bias: head.weights.bias,
      classWeights: settings.classWeights,
      gradOutput: options.gradOutput,
    });
  const rows = rowsOf(targets, N, { ...settings, vocabSize, device });
  if (reduction === "mean" && rows.divisor === 0)
    throw new InputError(
      "crossEntropy: reduction mean divides by the class weights of the targets, and they are all 0; take sum or none",
    );
  const share = gradientShares(options.gradOutput, N, rows, reduction, zLoss);

  const weight =
    wanted.weight === true ? await zeros(device, head.weights.matrix, options.signal) : wanted.weight;
  try {
    const bias = wanted.bias ? new Float32Array(vocabSize) : undefined;
    const query = queryOf(rows, share, settings.classWeights, {
      hidden: into ? into.subarray(0, rows.kept.length * D) : wanted.hidden,
      weight,
      bias,
      ...(filter !== undefined && { filter }),
    });
    const answer = await ask(head, takeRows(hidden, rows.kept, D), query, rows, N, options.signal);
    const losses = rowLosses(rows, answer, settings.classWeights, vocabSize);
    return {
      loss: reduce(losses, answer, rows, N, reduction, zLoss) as CrossEntropy<R>["loss"],
      count: rows.kept.length,
      ...(answer.dHidden && { hidden: putRows(answer.dHidden, rows.kept, D, into ?? N) }),
      ...(wanted.weight === true && weight && { weight: await weight.gather(upTo(vocabSize)) }),
      ...(bias && { bias }),
      ...(answer.filtered !== undefined && { filtered: answer.filtered }),
    };
  } finally {
    if (wanted.weight === true) weight?.free();
  }
}

/** What each kept row's loss, and its lse², is multiplied by in the sum of which the device gives the gradients. */
interface GradientShares {
  /** [kept] */
  readonly loss: Float64Array;
  /** [kept]; absent without z-loss. */
  readonly squares?: Float64Array;
}

function gradientShares(
  gradOutput: CrossEntropyOptions["gradOutput"] = 1,
  N: number,
  { kept, divisor }: Rows,
  reduction: Reduction,
  zLoss: number,
): GradientShares {
  if (typeof gradOutput !== "number") {
    if (reduction !== "none")
      throw new InputError(`crossEntropy: gradOutput: expected a number for reduction ${reduction}`);
    if (gradOutput?.length !== N)
      throw new InputError(
        `crossEntropy: gradOutput: expected a number or ${N} of them, one a row, got ${gradOutput?.length}`,
      );
  }
  const outputs = Float64Array.from(kept, (n) =>
    typeof gradOutput === "number" ? gradOutput : gradOutput[n],
  );
  const bad = outputs.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0)
    throw new InputError(
      `crossEntropy: gradOutput: expected finite numbers, got ${outputs[bad]} for row ${kept[bad]}`,
    );
  const mean = reduction === "mean";
  return {
    loss: outputs.map((g) => (mean ? g / divisor : g)),
    ...(zLoss > 0 && { squares: outputs.map((g) => (zLoss * g) / (mean ? kept.length : 1)) }),
  };
}

function queryOf(
  { ids, perRow, shares, uniform, teacher }: Rows,
  share: GradientShares,
  classWeights: Float32Array | undefined,
  gradients: LossQuery["gradients"],
): LossQuery {
  return {
    ids,
    perRow,
    coefficients: Float32Array.from(shares, (a, i) => a * share.loss[Math.floor(i / perRow)]),
    ...(uniform > 0 && { uniform: Float32Array.from(share.loss, (f) => uniform * f) }),
    ...(uniform > 0 && classWeights && { classWeights }),
    ...(share.squares && { squares: Float32Array.from(share.squares) }),
    ...(teacher && {
      teacher: {
        head: teacher.head.weights,
        hidden: teacher.hidden,
        soft: Float32Array.from(share.loss, (f) => teacher.soft * f),
      },
    }),
    gradients,
  };
}

async function ask(
  head: LinearHead,
  hidden: Float32Array,
  query: LossQuery,
  { kept }: Rows,
  N: number,
  signal: AbortSignal | undefined,
): Promise<LossAnswer> {
  try {
    return await head.device.loss(head.weights, hidden, query, signal);
  } catch (error) {
    if (!(error instanceof InputError) || kept.length === N) throw error;
    throw new InputError(`${error.message} (rows are counted without the ignored ones)`, { cause: error });
  }
}

/** Each kept row's loss without its z-loss, in float64. @throws InputError for an infinite one */
function rowLosses(
  { kept, perRow, shares, uniform, teacher }: Rows,
  { logSumExp, targetLogits, weightedLogits, teacherLogits }: LossAnswer,
  classWeights: Float32Array | undefined,
  vocabSize: number,
): Float64Array {
  const totalWeight = classWeights?.reduce((sum, w) => sum + w, 0) ?? vocabSize;
  return Float64Array.from(kept, (n, row) => {
    const lse = logSumExp[row];
    let loss = 0;
    for (let i = row * perRow; i < (row + 1) * perRow; i++)
      if (shares[i] > 0) loss += shares[i] * (lse - targetLogits[i]);
    if (weightedLogits) loss += uniform * (totalWeight * lse - weightedLogits[row]);
    if (teacher && teacherLogits && teacher.soft > 0) loss += teacher.soft * (lse - teacherLogits[row]);
    if (!Number.isFinite(loss))
      throw new InputError(
        `crossEntropy: row ${n}: its loss is infinite: a target's logit is -Infinity; leave masked tokens out of the targets`,
      );
    return loss;
  });
}

function reduce(
  losses: Float64Array,
  { logSumExp }: LossAnswer,
  { kept, divisor }: Rows,
  N: number,
  reduction: Reduction,
  zLoss: number,
): number | Float64Array {
  const squares = logSumExp.map((lse) => zLoss * lse * lse);
  if (reduction === "none") {
    const out = new Float64Array(N);
    for (const [row, n] of kept.entries()) out[n] = losses[row] + squares[row];
    return out;
  }
  if (kept.length === 0) return 0;
  const sum = (all: Float64Array) => all.reduce((total, x) => total + x, 0);
  return reduction === "sum"
    ? sum(losses) + sum(squares)
    : sum(losses) / divisor + sum(squares) / kept.length;
}

/** A matrix of zeros in the shape of another. */
function zeros(device: Device, { name, rows, cols }: Matrix, signal?: AbortSignal): Promise<Matrix> {
  return device.matrix(
    {
      name: `gradient of ${name}`,
      rows,
      cols,
      type: "f32",
      read: async (_, count) => new Uint8Array(count * cols * 4),
    },
    signal,
  );
}

function upTo(end: number): Int32Array {
  return Int32Array.from({ length: end }, (_, i) => i);
}
