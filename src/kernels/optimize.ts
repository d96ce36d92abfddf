import { checkFields, InputError } from "../errors.js";
import type { Matrix } from "./device.js";

/** A decay rate β as an average takes it: float32 of β and of 1 − β (in float64), each rounded once. */
export interface Rate {
  readonly beta: number;
  readonly rest: number;
}

// A step's scalars are float32 numbers, each computed in float64 and rounded once; src/train/optimizers makes them of an
// optimizer's options, and src/kernels/reference says what they do.

/** See `adamw` in src/kernels/reference/adamw.ts. */
export interface AdamWScalars {
  /** 1 − learningRate · weightDecay */
  readonly decay: number;
  readonly m: Rate;
  readonly v: Rate;
  /** √(1 − β2^step) */
  readonly root: number;
  readonly eps: number;
  /** learningRate / (1 − β1^step) */
  readonly size: number;
}

/** See `sgd` in src/kernels/reference/sgd.ts. */
export interface SgdScalars {
  /** learningRate */
  readonly rate: number;
  /** weightDecay */
  readonly decay: number;
  readonly momentum: number;
  /** 1 − dampening; 1 at the first step */
  readonly share: number;
  readonly nesterov: boolean;
}

/** See `lion` in src/kernels/reference/lion.ts. */
export interface LionScalars {
  /** learningRate, from 0 */
  readonly rate: number;
  /** 1 − learningRate · weightDecay */
  readonly decay: number;
  /** β1 */
  readonly direction: Rate;
  /** β2 */
  readonly memory: Rate;
}

/** See `muon` in src/kernels/reference/muon.ts. */
export interface MuonScalars {
  /** learningRate, adjusted to the matrix's shape */
  readonly rate: number;
  /** 1 − learningRate · weightDecay */
  readonly decay: number;
  readonly momentum: Rate;
  readonly nesterov: boolean;
}

/** One matrix's step: float32 matrices of one shape on one device; all but the gradient change. */
interface Step {
  readonly value: Matrix;
  readonly gradient: Matrix;
  /** The gradient is multiplied by it first, both rounded to float32: what clipping by global norm takes. 1: nothing. */
  readonly factor: number;
}
export interface AdamWUpdate extends Step {
  readonly kind: "adamw";
  readonly m: Matrix;
  readonly v: Matrix;
  readonly scalars: AdamWScalars;
}
export interface SgdUpdate extends Step {
  readonly kind: "sgd";
  /** Absent: a step without momentum. */
  readonly momentum?: Matrix;
  readonly scalars: SgdScalars;
}
export interface LionUpdate extends Step {
  readonly kind: "lion";
  readonly m: Matrix;
  readonly scalars: LionScalars;
}
export interface MuonUpdate extends Step {
  readonly kind: "muon";
  readonly momentum: Matrix;
  readonly scalars: MuonScalars;
}
/** One matrix's step of an optimizer; `kind` says of which. */
export type MatrixUpdate = AdamWUpdate | SgdUpdate | LionUpdate | MuonUpdate;

interface Scalar {
  readonly expected: string;
  readonly fits: (x: unknown) => boolean;
}
const number: Scalar = { expected: "a float32 number (Math.fround makes one)", fits: isFloat32 };
const rate: Scalar = { expected: "a float32 number from 0", fits: (x: unknown) => isFloat32(x) && x >= 0 };
const average: Scalar = { expected: "a Rate of float32 numbers", fits: isRate };
const flag: Scalar = { expected: "true or false", fits: (x: unknown) => typeof x === "boolean" };

interface Kind {
  /** Names of the matrices it keeps. */
  readonly states: readonly string[];
  readonly scalars: Readonly<Record<string, Scalar>>;
}
const KINDS: Readonly<Record<MatrixUpdate["kind"], Kind>> = {
  adamw: {
    states: ["m", "v"],
    scalars: { decay: number, m: average, v: average, root: number, eps: number, size: number },
  },
  sgd: {
    states: ["momentum"],
    scalars: { rate, decay: number, momentum: number, share: number, nesterov: flag },
  },
  lion: { states: ["m"], scalars: { rate, decay: number, direction: average, memory: average } },
  muon: { states: ["momentum"], scalars: { rate, decay: number, momentum: average, nesterov: flag } },
};

/** An update's states in the order of their names: [m, v], [momentum], [m], or none. */
export function statesOf(update: MatrixUpdate): Matrix[] {
  if (update.kind === "adamw") return [update.m, update.v];
  if (update.kind === "lion") return [update.m];
  return update.momentum ? [update.momentum] : [];
}

/**
 * Holds the updates of one call to what they must be, before any is made.
 * @throws InputError for an unknown kind or field, a state that is missing, matrices of other shapes or types, one that would
 *   be changed twice or changed and read, or scalars that are no float32 numbers
 */
export function checkUpdates(updates: readonly MatrixUpdate[]): void {
  const changed = new Map<Matrix, string>();
  for (const update of updates) {
    checkOne(update);
    for (const matrix of [update.value, ...statesOf(update)]) {
      const other = changed.get(matrix);
      if (other)
        throw new InputError(
          `${update.kind}: ${update.value.name}: "${matrix.name}" already changes in the update of ${other}; give each part of each update its own matrix`,
        );
      changed.set(matrix, update.value.name);
    }
  }
  for (const { kind, value, gradient } of updates)
    if (changed.has(gradient))
      throw new InputError(
        `${kind}: ${value.name}: its gradient "${gradient.name}" changes in the update of ${changed.get(gradient)}; give it its own matrix`,
      );
}

function checkOne(update: MatrixUpdate): void {
  const { kind, value, gradient, factor } = update;
  if (!Object.hasOwn(KINDS, kind))
    throw new InputError(
      `update: kind: expected one of ${Object.keys(KINDS).join(", ")}, got ${JSON.stringify(kind)}`,
    );
  const { states, scalars } = KINDS[kind];
  checkFields(`${kind} update`, update, ["kind", "value", "gradient", ...states, "scalars", "factor"]);
  const given = new Map<string, unknown>(Object.entries(update));
  if (kind !== "sgd")
    for (const name of states)
      if (!given.get(name))
        throw new InputError(`${kind}: ${name} of ${value.name}: expected a matrix, got none`);
  const parts = { value, gradient, ...Object.fromEntries(states.map((name) => [name, given.get(name)])) };
  for (const [part, matrix] of Object.entries(parts))
    if (matrix && (matrix.type !== "f32" || matrix.rows !== value.rows || matrix.cols !== value.cols))
      throw new InputError(
        `${kind}: ${part} of ${value.name}: expected a float32 matrix [${value.rows}, ${value.cols}], got ${matrix.type} [${matrix.rows}, ${matrix.cols}]`,
      );
  if (!Number.isFinite(Math.fround(factor)))
    throw new InputError(`${kind}: factor of ${value.name}: expected a finite float32, got ${factor}`);
  checkFields(`${kind}: scalars of ${value.name}`, update.scalars, Object.keys(scalars));
  const numbers = new Map<string, unknown>(Object.entries(update.scalars));
  for (const [name, { expected, fits }] of Object.entries(scalars))
    if (!fits(numbers.get(name)))
      throw new InputError(
        `${kind}: scalars.${name} of ${value.name}: expected ${expected}, got ${shown(numbers.get(name))}`,
      );
}

function shown(value: unknown): string {
  return typeof value === "number" ? String(value) : JSON.stringify(value);
}
function isFloat32(x: unknown): x is number {
  return typeof x === "number" && Number.isFinite(x) && Math.fround(x) === x;
}
function isRate(x: unknown): boolean {
  return Object(x) === x && isFloat32((x as Rate).beta) && isFloat32((x as Rate).rest);
}

/** What to say when a step has left float32's range. */
export function overflow({ kind, value }: MatrixUpdate): InputError {
  return new InputError(
    `${kind}: ${value.name} left the range of float32; restore a checkpoint and take a lower learning rate`,
  );
}
