import { InputError } from "../errors.js";
import type { Matrix } from "./device.js";

/** A decay rate β as an average takes it: float32 of β and of 1 − β (in float64), each rounded once. */
export interface Rate {
  readonly beta: number;
  readonly rest: number;
}

/** A step's float32 scalars, each computed in float64 and rounded once; see `adamwStep` in src/train/optimizers. */
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

/** One matrix's step of AdamW: four float32 matrices of one shape on one device; value, m and v change. */
export interface AdamWUpdate {
  readonly value: Matrix;
  readonly gradient: Matrix;
  readonly m: Matrix;
  readonly v: Matrix;
  readonly scalars: AdamWScalars;
  /** A float32 by which the gradient is multiplied first, rounded to float32: what clipping by global norm takes. 1: nothing. */
  readonly factor: number;
}

/** @throws InputError for matrices of other shapes or types, or one that stands twice in an update */
export function checkUpdate({ value, gradient, m, v, factor }: AdamWUpdate): void {
  for (const [what, matrix] of Object.entries({ value, gradient, m, v }))
    if (matrix.type !== "f32" || matrix.rows !== value.rows || matrix.cols !== value.cols)
      throw new InputError(
        `adamw: ${what} of ${value.name}: expected a float32 matrix [${value.rows}, ${value.cols}], got ${matrix.type} [${matrix.rows}, ${matrix.cols}]`,
      );
  if (new Set([value, gradient, m, v]).size < 4)
    throw new InputError(`adamw: ${value.name}: value, gradient, m and v must be four matrices`);
  if (!Number.isFinite(factor))
    throw new InputError(`adamw: factor of ${value.name}: expected a finite number, got ${factor}`);
}

/** What to say when a step has left float32's range. */
export function overflow(name: string): InputError {
  return new InputError(
    `adamw: ${name} left the range of float32; restore a checkpoint and take a lower learning rate`,
  );
}
