import { checkFields, InputError } from "../errors.js";
import type { HeadQuery, HeadWeights, Matrix } from "./device.js";
import type { LossAnswer, LossGradients, LossQuery } from "./loss.js";
import { checkAsk, checkFinite } from "./validate.js";

const NOTHING: HeadQuery = { topK: 0, rank: false, logSumExp: false, entropy: false, logits: false };

/**
 * Checks what a device is asked about linear + cross-entropy, before any work and before any gradient is added.
 * @param hidden [N, D]; N is its length over the matrix's columns, and may be 0
 * @throws InputError naming the field, row or id, what was expected and what came
 */
export function checkLoss(
  head: HeadWeights,
  hidden: Float32Array,
  query: LossQuery,
): { N: number; D: number } {
  checkAsk(head, new Float32Array(0), NOTHING);
  const { vocabSize } = head;
  const D = head.matrix.cols;
  if (hidden.length % D !== 0)
    throw new InputError(`loss: ${hidden.length} numbers are not whole hidden rows of ${D}`);
  const N = hidden.length / D;
  checkRows("hidden", hidden, N, D);

  checkFields("loss", query, [
    "ids",
    "perRow",
    "coefficients",
    "uniform",
    "classWeights",
    "squares",
    "teacher",
    "gradients",
  ]);
  const { ids, perRow, coefficients, uniform, classWeights, squares, teacher, gradients } = query;
  if (!(Number.isSafeInteger(perRow) && perRow >= 0))
    throw new InputError(`loss: perRow: expected a whole number from 0, got ${perRow}`);
  if (ids.length !== N * perRow)
    throw new InputError(`loss: ${N} rows of ${perRow} ids take ${N * perRow}, but ${ids.length} came`);
  for (let i = 0; i < ids.length; i++)
    if (!(Number.isInteger(ids[i]) && ids[i] >= 0 && ids[i] < vocabSize))
      throw new InputError(
        `loss: row ${Math.floor(i / perRow)}: id ${ids[i]} is not in the vocabulary [0, ${vocabSize})`,
      );
  checkRows("coefficients", coefficients, N, perRow);
  if (uniform) checkRows("uniform", uniform, N, 1);
  if (classWeights) checkClassWeights("loss", classWeights, vocabSize);
  if (squares) checkRows("squares", squares, N, 1);
  if (teacher) {
    checkFields("loss: teacher", teacher, ["head", "hidden", "soft"]);
    checkAsk(teacher.head, new Float32Array(0), NOTHING);
    if (teacher.head.vocabSize !== vocabSize)
      throw new InputError(
        `loss: the teacher's vocabulary has ${teacher.head.vocabSize} ids and the head's ${vocabSize}; they must be the same`,
      );
    checkRows("teacher.hidden", teacher.hidden, N, teacher.head.matrix.cols);
    checkRows("teacher.soft", teacher.soft, N, 1);
  }
  checkGradients(head, gradients, teacher?.head.matrix);
  checkHiddenGradient(head, hidden, query);
  checkFilter(query);
  checkMasked(head, query);
  return { N, D };
}

/**
 * @param what begins the error messages
 * @throws InputError unless `weights` holds `vocabSize` finite numbers from 0
 */
export function checkClassWeights(what: string, weights: Float32Array, vocabSize: number): void {
  if (weights.length !== vocabSize)
    throw new InputError(
      `${what}: classWeights: expected ${vocabSize} numbers, one an id, got ${weights.length}`,
    );
  const bad = weights.findIndex((w) => !(w >= 0 && w < Infinity));
  if (bad >= 0)
    throw new InputError(
      `${what}: classWeights: expected finite numbers from 0, got ${weights[bad]} at id ${bad}`,
    );
}

/** Finite numbers [N, width]. */
function checkRows(name: string, data: Float32Array, N: number, width: number): void {
  if (data.length !== N * width)
    throw new InputError(
      `loss: ${name}: ${N} rows of ${width} take ${N * width} numbers, but ${data.length} came`,
    );
  checkFinite(`loss: ${name}`, data, width);
}

function checkGradients(head: HeadWeights, gradients: LossGradients, teacher: Matrix | undefined): void {
  checkFields("loss: gradients", gradients, ["hidden", "weight", "bias", "filter"]);
  const { hidden, weight, bias } = gradients;
  const { matrix } = head;
  if (typeof hidden !== "boolean" && !(hidden instanceof Float32Array))
    throw new InputError(`loss: gradients.hidden: expected true or false or a Float32Array, got ${hidden}`);
  if (weight) {
    if (weight.rows !== matrix.rows || weight.cols !== matrix.cols || weight.type !== "f32")
      throw new InputError(
        `loss: gradients.weight: expected an f32 matrix [${matrix.rows}, ${matrix.cols}] like "${matrix.name}", got ${weight.type} [${weight.rows}, ${weight.cols}]`,
      );
    if (weight === matrix || weight === teacher)
      throw new InputError(
        `loss: gradients.weight is the weight matrix "${weight.name}" itself; give another one, of zeros`,
      );
  }
  if (bias) {
    if (!head.bias) throw new InputError("loss: gradients.bias: the head has no bias");
    if (bias.length !== head.bias.length)
      throw new InputError(
        `loss: gradients.bias: expected ${head.bias.length} numbers, one an id, got ${bias.length}`,
      );
    if (bias === head.bias)
      throw new InputError("loss: gradients.bias is the head's bias itself; give another array, of zeros");
  }
}

function checkHiddenGradient(head: HeadWeights, hidden: Float32Array, query: LossQuery): void {
  const { coefficients, uniform, classWeights, squares, teacher, gradients } = query;
  if (!(gradients.hidden instanceof Float32Array)) return;
  checkReceiver("loss", gradients.hidden, hidden, {
    coefficients,
    uniform,
    classWeights,
    squares,
    bias: head.bias,
    "gradients.bias": gradients.bias,
    "teacher.hidden": teacher?.hidden,
    "teacher.soft": teacher?.soft,
    "teacher.bias": teacher?.head.bias,
  });
}

/**
 * Checks the array that receives the gradient by hidden states.
 * @param what begins the error messages
 * @param read what else is read (or written) while it is written
 * @throws InputError unless it has hidden's length and shares no memory with hidden or with `read`
 */
export function checkReceiver(
  what: string,
  into: Float32Array,
  hidden: Float32Array,
  read: Readonly<Record<string, unknown>>,
): void {
  if (into.length !== hidden.length)
    throw new InputError(
      `${what}: gradients.hidden: expected ${hidden.length} numbers, as many as hidden has, got ${into.length}`,
    );
  for (const [name, other] of Object.entries({ hidden, ...read }))
    if (ArrayBuffer.isView(other) && overlap(into, other))
      throw new InputError(
        `${what}: gradients.hidden shares memory with ${name}, which it would write over; give another array`,
      );
}

function overlap(a: ArrayBufferView, b: ArrayBufferView): boolean {
  return (
    a.buffer === b.buffer &&
    a.byteOffset < b.byteOffset + b.byteLength &&
    b.byteOffset < a.byteOffset + a.byteLength
  );
}

function checkFilter({ uniform, gradients: { filter, hidden, weight } }: LossQuery): void {
  if (filter === undefined) return;
  if (!(typeof filter === "number" && filter >= 0 && filter < 1))
    throw new InputError(`loss: gradients.filter: expected a number in [0, 1), got ${filter}`);
  if (!(hidden || weight))
    throw new InputError(
      "loss: gradients.filter leaves out parts of the gradients of hidden states and weight, but neither was asked for",
    );
  if (uniform)
    throw new InputError(
      "loss: gradients.filter does not go with uniform: what it gives each id is small, and all of it is not; leave one of them out",
    );
}

/** A bias of -Infinity masks its token (unless a cap makes the logit finite): a share in it makes a loss infinite. */
function checkMasked({ bias, softcap }: HeadWeights, query: LossQuery): void {
  if (!bias || softcap !== undefined) return;
  const { ids, perRow, coefficients, uniform, classWeights } = query;
  for (let i = 0; i < ids.length; i++)
    if (coefficients[i] !== 0 && bias[ids[i]] === -Infinity) throw infinite(Math.floor(i / perRow), ids[i]);
  const row = uniform?.findIndex((u) => u !== 0) ?? -1;
  if (row < 0) return;
  const id = bias.findIndex((b, c) => b === -Infinity && (!classWeights || classWeights[c] > 0));
  if (id >= 0) throw infinite(row, id);
}

/** What to say of a row in whose loss a token of logit -Infinity has a share. */
export function infinite(row: number, id: number): InputError {
  return new InputError(
    `loss: row ${row}: its loss is infinite, for id ${id} has a share in it and the logit -Infinity; leave the id out of the targets, and of label smoothing by class weight 0 (or take no label smoothing)`,
  );
}

/**
 * Refuses rows [first, first + rows) in whose loss a logit of -Infinity has a share although no bias masks it: products
 * of finite numbers may leave float32's range.
 */
export function refuseInfinite(
  { ids, perRow, coefficients, uniform }: LossQuery,
  { targetLogits, weightedLogits }: LossAnswer,
  first: number,
  rows: number,
): void {
  for (let i = first * perRow; i < (first + rows) * perRow; i++)
    if (coefficients[i] !== 0 && targetLogits[i] === -Infinity)
      throw infinite(Math.floor(i / perRow), ids[i]);
  for (let n = first; uniform && weightedLogits && n < first + rows; n++)
    if (uniform[n] !== 0 && weightedLogits[n] === -Infinity)
      throw new InputError(`loss: row ${n}: a logit is below float32's range, so its loss is infinite`);
}
