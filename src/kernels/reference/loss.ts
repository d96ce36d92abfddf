import type { HeadWeights } from "../device.js";
import { FILTER_IDS, type LossAnswer, type LossQuery } from "../loss.js";
import { checkLoss, infinite } from "../validate-loss.js";
import { logitsOf, type PlainHead } from "./ask.js";
import type { Breather } from "./breather.js";
import { emptyFold, foldLogits, SHARD, sumFold } from "./fold.js";
import { plain } from "./matrix.js";

/** One row's final logits [V], and the natural logarithm of Σ exp(logit). */
interface RowLogits {
  readonly logits: Float32Array;
  readonly logSumExp: number;
}

/**
 * The reference of `Device.loss`: rows one after the other, each with all of its logits. Logits and log-sum-exp have
 * the bits of `ask`; all else is summed in float64, and gradients are rounded once, when a call is done. So a call that
 * throws has added nothing. Memory: the answer, some numbers an id, and float64 [V, D] for the weight's gradient.
 * @param hidden [N, D]
 * @param breather asked after each piece of work whether to pause
 * @throws InputError for a query that makes no sense; for a row without an answer: logits that are NaN, +Infinity, or
 * all -Infinity, or an infinite loss. AbortError when the signal fires.
 */
export async function loss(
  head: HeadWeights,
  hidden: Float32Array,
  query: LossQuery,
  breather: Breather,
): Promise<LossAnswer> {
  const { N, D } = checkLoss(head, hidden, query);
  const { perRow, uniform, classWeights, teacher, gradients } = query;
  const V = head.vocabSize;
  const student: PlainHead = { ...head, weight: plain(head.matrix), D };
  const weightGradient = gradients.weight && plain(gradients.weight);
  const teaching = teacher && plainOf(teacher.head);
  const answer: LossAnswer = {
    logSumExp: new Float64Array(N),
    targetLogits: new Float32Array(N * perRow),
    ...(uniform && { weightedLogits: new Float64Array(N) }),
    ...(teacher && { teacherLogits: new Float64Array(N) }),
    ...(gradients.hidden && {
      dHidden: gradients.hidden === true ? new Float32Array(N * D) : gradients.hidden,
    }),
  };
  const dWeight = weightGradient && new Float64Array(V * D);
  const dBias = gradients.bias && new Float64Array(V);
  const totalWeight = classWeights?.reduce((sum, w) => sum + w, 0) ?? V;
  let left = 0;

  for (let n = 0; n < N; n++) {
    const h = hidden.subarray(n * D, (n + 1) * D);
    const row = await logitsOfRow(student, h, `row ${n}`, breather);
    const shares = teacher && teaching && (await teacherShares(teaching, teacher.hidden, n, breather));
    writeRow(answer, n, row, query, shares);
    if (!(answer.dHidden || dWeight || dBias)) continue;
    const dz = rowGradient(student, n, row, query, totalWeight, shares);
    const dh = new Float64Array(D);
    const kept = keptBlocks(n, row, query, shares);
    left += kept.reduce((sum, keep) => sum + (keep ? 0 : 1), 0);
    await breather.pieces(V, 2 * D, (first, end) => {
      for (let c = first; c < end; c++) {
        if (dz[c] === 0) continue;
        const at = c * D;
        if (dBias) dBias[c] += dz[c];
        if (!kept[Math.floor(c / FILTER_IDS)]) continue;
        if (dWeight) for (let k = 0; k < D; k++) dWeight[at + k] += dz[c] * h[k];
        if (answer.dHidden) for (let k = 0; k < D; k++) dh[k] += dz[c] * student.weight[at + k];
      }
    });
    answer.dHidden?.set(dh, n * D);
  }
  if (dWeight && weightGradient) addTo(weightGradient, dWeight);
  if (dBias && gradients.bias) addTo(gradients.bias, dBias);
  if (gradients.filter !== undefined)
    return { ...answer, filtered: left / Math.max(1, N * Math.ceil(V / FILTER_IDS)) };
  return answer;
}

function plainOf(head: HeadWeights): PlainHead {
  return { ...head, weight: plain(head.matrix), D: head.matrix.cols };
}

async function logitsOfRow(
  head: PlainHead,
  hidden: Float32Array,
  what: string,
  breather: Breather,
): Promise<RowLogits> {
  const { vocabSize } = head;
  const logits = new Float32Array(vocabSize);
  let fold = emptyFold({ what, topK: 0, targets: new Float32Array(0) });
  for (let first = 0; first < vocabSize; first += SHARD) {
    const part = logitsOf(head, hidden, first, Math.min(first + SHARD, vocabSize));
    fold = foldLogits(fold, part, first);
    logits.set(part, first);
    await breather.pause();
  }
  return { logits, logSumExp: sumFold(fold).logSumExp };
}

/** The teacher's probabilities in row n, [V]. */
async function teacherShares(
  head: PlainHead,
  hidden: Float32Array,
  n: number,
  breather: Breather,
): Promise<Float64Array> {
  const h = hidden.subarray(n * head.D, (n + 1) * head.D);
  const { logits, logSumExp } = await logitsOfRow(head, h, `the teacher's row ${n}`, breather);
  return Float64Array.from(logits, (y) => Math.exp(y - logSumExp));
}

/** Puts row n's numbers into the answer. @throws InputError when a logit of -Infinity has a share in the row's loss */
function writeRow(
  answer: LossAnswer,
  n: number,
  { logits, logSumExp }: RowLogits,
  { ids, perRow, coefficients, uniform, classWeights, teacher }: LossQuery,
  shares: Float64Array | undefined,
): void {
  answer.logSumExp[n] = logSumExp;
  for (let i = n * perRow; i < (n + 1) * perRow; i++) {
    answer.targetLogits[i] = logits[ids[i]];
    if (coefficients[i] !== 0 && logits[ids[i]] === -Infinity) throw infinite(n, ids[i]);
  }
  if (answer.weightedLogits && uniform)
    answer.weightedLogits[n] = weighted(n, logits, uniform[n], (c) => classWeights?.[c] ?? 1);
  if (answer.teacherLogits && teacher && shares)
    answer.teacherLogits[n] = weighted(n, logits, teacher.soft[n], (c) => shares[c]);
}

/** Σ_c weight(c) · logits[c] in float64, where 0 · -Infinity is 0. @throws InputError when it is -Infinity and counts */
function weighted(n: number, logits: Float32Array, counts: number, weight: (c: number) => number): number {
  let sum = 0;
  for (let c = 0; c < logits.length; c++) {
    const w = weight(c);
    if (w === 0) continue;
    if (counts !== 0 && logits[c] === -Infinity) throw infinite(n, c);
    sum += w * logits[c];
  }
  return sum;
}

/**
 * dL/dz [V] of row n, where y = softcap(scale · z). With p = softmax(y),
 *
 *     dL/dy_c = p_c · (Σ_j coefficients_j + uniform · Σ classWeights + soft + 2 · squares · lse)
 *             − uniform · classWeights_c − soft · t_c − Σ_{j: ids_j = c} coefficients_j
 *     dL/dz_c = dL/dy_c · (1 − (y_c / softcap)²) · scale
 *
 * A logit of -Infinity has p = 0 and, as its row's loss is finite, no share: its gradient is 0.
 */
function rowGradient(
  { scale, softcap }: PlainHead,
  n: number,
  { logits, logSumExp }: RowLogits,
  { ids, perRow, coefficients, uniform, classWeights, squares, teacher }: LossQuery,
  totalWeight: number,
  shares: Float64Array | undefined,
): Float64Array {
  const u = uniform?.[n] ?? 0;
  const soft = teacher?.soft[n] ?? 0;
  let total = u * totalWeight + soft + 2 * (squares?.[n] ?? 0) * logSumExp;
  for (let i = n * perRow; i < (n + 1) * perRow; i++) total += coefficients[i];
  const out = new Float64Array(logits.length);
  for (let c = 0; c < out.length; c++)
    out[c] =
      Math.exp(logits[c] - logSumExp) * total - u * (classWeights?.[c] ?? 1) - soft * (shares?.[c] ?? 0);
  for (let i = n * perRow; i < (n + 1) * perRow; i++) out[ids[i]] -= coefficients[i];
  for (let c = 0; c < out.length; c++)
    out[c] *= scale * (softcap === undefined ? 1 : 1 - (logits[c] / softcap) ** 2);
  return out;
}

/** Which blocks of row n the gradient filter keeps: see `LossGradients.filter`. */
function keptBlocks(
  n: number,
  { logits, logSumExp }: RowLogits,
  { ids, perRow, coefficients, gradients: { filter = 0 } }: LossQuery,
  shares: Float64Array | undefined,
): boolean[] {
  const kept = new Array<boolean>(Math.ceil(logits.length / FILTER_IDS)).fill(filter === 0);
  if (filter === 0) return kept;
  for (let i = n * perRow; i < (n + 1) * perRow; i++)
    if (coefficients[i] !== 0) kept[Math.floor(ids[i] / FILTER_IDS)] = true;
  for (let c = 0; c < logits.length; c++)
    if (Math.max(Math.exp(logits[c] - logSumExp), shares?.[c] ?? 0) >= filter)
      kept[Math.floor(c / FILTER_IDS)] = true;
  return kept;
}

function addTo(into: Float32Array, sums: Float64Array): void {
  for (let i = 0; i < sums.length; i++) into[i] += sums[i];
}
