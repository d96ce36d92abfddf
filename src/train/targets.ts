import { checkFields, InputError } from "../errors.js";
import type { LinearHead } from "../head/linear.js";
import type { Device } from "../kernels/device.js";

/** What `crossEntropy` holds a head to: ids [N]; probabilities of some ids; or the softmax of another head. */
export type Targets = Int32Array | readonly number[] | ProbabilityTargets | TeacherTargets;

/**
 * Probabilities of some ids of each row (a teacher's top k, say): each from 0, at most 1 in all (to 1e-3), used as they
 * are. An id may be repeated: its probabilities are added. One entry a row, or arrays [N, k].
 */
export interface ProbabilityTargets {
  readonly probabilities:
    | readonly { readonly ids: ArrayLike<number>; readonly probs: ArrayLike<number> }[]
    | { readonly ids: Int32Array; readonly probs: Float32Array };
}

/** Another head of the same vocabulary on the same device, and its hidden states [N, its D]. */
export interface TeacherTargets {
  readonly teacher: LinearHead;
  readonly hidden: Float32Array;
}

/** Targets as the device wants them, ignored rows left out. */
export interface Rows {
  /** Which of the N rows are kept, in order. */
  readonly kept: Int32Array;
  /** [kept, perRow] */
  readonly ids: Int32Array;
  readonly perRow: number;
  /** [kept, perRow]: what lse − logit of each id is multiplied by in a row's loss. */
  readonly shares: Float64Array;
  /** What each class weight times (lse − logit) is multiplied by: ε / V. */
  readonly uniform: number;
  readonly teacher?: { readonly head: LinearHead; readonly hidden: Float32Array; readonly soft: number };
  /** What reduction "mean" divides by; 1 when no row is kept. */
  readonly divisor: number;
}

/** What of `crossEntropy`'s options and head decides the rows. */
export interface RowOptions {
  readonly vocabSize: number;
  readonly device: Device;
  readonly ignoreIndex?: number;
  readonly labelSmoothing: number;
  readonly classWeights?: Float32Array;
}

/** @throws InputError for targets that do not fit N rows, the vocabulary or the options */
export function rowsOf(targets: Targets, N: number, options: RowOptions): Rows {
  if (typeof targets !== "object" || targets === null)
    throw new InputError(`targets: expected ids, { probabilities } or { teacher, hidden }, got ${targets}`);
  if (targets instanceof Int32Array || Array.isArray(targets)) return hardRows(targets, N, options);
  if (options.ignoreIndex !== undefined)
    throw new InputError("ignoreIndex is of targets that are ids; leave it out with soft targets");
  if ("probabilities" in targets) return probabilityRows(targets, N, options);
  if ("teacher" in targets) return teacherRows(targets, N, options);
  throw new InputError(
    "targets: expected ids (an Int32Array or an array of numbers), { probabilities } or { teacher, hidden }",
  );
}

function hardRows(
  targets: ArrayLike<number>,
  N: number,
  { vocabSize, ignoreIndex = -100, labelSmoothing, classWeights }: RowOptions,
): Rows {
  if (targets.length !== N)
    throw new InputError(`targets: expected ${N}, one a row of hidden, got ${targets.length}`);
  const kept: number[] = [];
  for (let n = 0; n < N; n++) {
    const id = targets[n];
    if (id === ignoreIndex) continue;
    checkId(id, n, vocabSize, ` or ignoreIndex ${ignoreIndex}`);
    kept.push(n);
  }
  const ids = Int32Array.from(kept, (n) => targets[n]);
  const weights = Float64Array.from(ids, (id) => classWeights?.[id] ?? 1);
  const divisor = weights.reduce((sum, w) => sum + w, 0);
  return {
    kept: Int32Array.from(kept),
    ids,
    perRow: 1,
    shares: weights.map((w) => (1 - labelSmoothing) * w),
    uniform: labelSmoothing / vocabSize,
    divisor: kept.length === 0 ? 1 : divisor,
  };
}

function probabilityRows(
  targets: ProbabilityTargets,
  N: number,
  { vocabSize, labelSmoothing, classWeights }: RowOptions,
): Rows {
  checkFields("targets", targets, ["probabilities"]);
  const rows = entries(targets.probabilities, N);
  const perRow = rows.reduce((most, { ids }) => Math.max(most, ids.length), 0);
  // Rows with fewer ids than the longest are filled up with id 0 and share 0.
  const all = new Int32Array(N * perRow);
  const shares = new Float64Array(N * perRow);
  for (const [n, { ids, probs }] of rows.entries()) {
    if (ids.length !== probs.length)
      throw new InputError(
        `targets.probabilities: row ${n}: ${ids.length} ids came with ${probs.length} probs`,
      );
    let sum = 0;
    for (let i = 0; i < ids.length; i++) {
      checkId(ids[i], n, vocabSize, "");
      if (!(probs[i] >= 0))
        throw new InputError(
          `targets.probabilities: row ${n}: expected probabilities from 0, got ${probs[i]} for id ${ids[i]}`,
        );
      sum += probs[i];
      all[n * perRow + i] = ids[i];
      shares[n * perRow + i] = (1 - labelSmoothing) * probs[i] * (classWeights?.[ids[i]] ?? 1);
    }
    if (sum > 1 + 1e-3)
      throw new InputError(
        `targets.probabilities: row ${n}: expected probabilities of at most 1 in all, got ${sum}`,
      );
  }
  return { ...softRows(N, labelSmoothing / vocabSize), ids: all, perRow, shares };
}

/** One entry a row, of either form. */
function entries(
  given: ProbabilityTargets["probabilities"],
  N: number,
): readonly { readonly ids: ArrayLike<number>; readonly probs: ArrayLike<number> }[] {
  if (Array.isArray(given)) {
    if (given.length !== N)
      throw new InputError(`targets.probabilities: expected ${N}, one a row of hidden, got ${given.length}`);
    for (const [n, row] of given.entries())
      if (typeof row !== "object" || row === null || !row.ids || !row.probs)
        throw new InputError(`targets.probabilities: row ${n}: expected { ids, probs }`);
      else checkFields(`targets.probabilities: row ${n}`, row, ["ids", "probs"]);
    return given;
  }
  const { ids, probs } = given as { readonly ids: Int32Array; readonly probs: Float32Array };
  if (!(ids instanceof Int32Array && probs instanceof Float32Array))
    throw new InputError(
      "targets.probabilities: expected an array of { ids, probs }, one a row, or { ids: Int32Array, probs: Float32Array } of [N, k]",
    );
  checkFields("targets.probabilities", given, ["ids", "probs"]);
  const k = N === 0 ? 0 : ids.length / N;
  if (!Number.isInteger(k) || ids.length !== probs.length || k * N !== ids.length)
    throw new InputError(
      `targets.probabilities: expected ids and probs of [${N}, k], got ${ids.length} ids and ${probs.length} probs`,
    );
  return Array.from({ length: N }, (_, n) => ({
    ids: ids.subarray(n * k, (n + 1) * k),
    probs: probs.subarray(n * k, (n + 1) * k),
  }));
}

function teacherRows(
  targets: TeacherTargets,
  N: number,
  { vocabSize, device, labelSmoothing, classWeights }: RowOptions,
): Rows {
  checkFields("targets", targets, ["teacher", "hidden"]);
  const { teacher, hidden } = targets;
  if (teacher?.device !== device)
    throw new InputError("targets: the teacher is on another device than the head; open both on one");
  if (teacher.vocabSize !== vocabSize)
    throw new InputError(
      `targets: the teacher's vocabulary has ${teacher.vocabSize} ids and the head's ${vocabSize}; they must be the same`,
    );
  if (!(hidden instanceof Float32Array) || hidden.length !== N * teacher.hiddenSize)
    throw new InputError(
      `targets: hidden: expected the teacher's ${N} rows of ${teacher.hiddenSize} numbers, a Float32Array of ${N * teacher.hiddenSize}, got ${hidden?.length}`,
    );
  if (classWeights)
    throw new InputError("classWeights do not go with a teacher; leave them out, or give probabilities");
  return {
    ...softRows(N, labelSmoothing / vocabSize),
    ids: new Int32Array(0),
    perRow: 0,
    shares: new Float64Array(0),
    teacher: { head: teacher, hidden, soft: 1 - labelSmoothing },
  };
}

/** Soft targets ignore no row, and their mean is over rows. */
function softRows(N: number, uniform: number): Pick<Rows, "kept" | "uniform" | "divisor"> {
  return { kept: Int32Array.from({ length: N }, (_, n) => n), uniform, divisor: Math.max(1, N) };
}

function checkId(id: number, row: number, vocabSize: number, or: string): void {
  if (!(Number.isInteger(id) && id >= 0 && id < vocabSize))
    throw new InputError(`targets: row ${row}: expected an id in [0, ${vocabSize})${or}, got ${id}`);
}

/** Rows `kept` of [N, width]. */
export function takeRows(data: Float32Array, kept: Int32Array, width: number): Float32Array {
  if (kept.length * width === data.length) return data;
  const out = new Float32Array(kept.length * width);
  for (const [row, n] of kept.entries()) out.set(data.subarray(n * width, (n + 1) * width), row * width);
  return out;
}

/**
 * The opposite of `takeRows`: zeros in all other rows.
 * @param into how many rows there are in all; or the array [N, width] of which `data` is the beginning: rows move in it
 */
export function putRows(
  data: Float32Array,
  kept: Int32Array,
  width: number,
  into: number | Float32Array,
): Float32Array {
  const N = typeof into === "number" ? into : into.length / width;
  if (kept.length === N) return typeof into === "number" ? data : into;
  const out = typeof into === "number" ? new Float32Array(N * width) : into;
  // From the last on: row n never stands before the row of `data` that moves there.
  let end = N;
  for (let row = kept.length - 1; row >= 0; row--) {
    const n = kept[row];
    out.fill(0, (n + 1) * width, end * width);
    out.set(data.subarray(row * width, (row + 1) * width), n * width);
    end = n;
  }
  return out.fill(0, 0, end * width);
}
