import { InputError } from "../../errors.js";
import type { Matrix } from "../../kernels/device.js";

/**
 * What a parameter is to an optimizer: `matrix`, a hidden layer's [outputs, inputs]; `vocabulary`, an embedding or a
 * head [V, D]; `vector`, a norm's scale or a bias.
 */
export type ParameterKind = "matrix" | "vocabulary" | "vector";

/** A trained array: its name, its shape (row-major) and what it is. */
export interface Parameter {
  /** Unique among the parameters of an optimizer. */
  readonly name: string;
  /** [rows, cols] of a matrix or vocabulary, [length] of a vector. */
  readonly shape: readonly [number, number] | readonly [number];
  readonly kind: ParameterKind;
}

/** Flat float32 arrays by name: values, gradients, or an optimizer's state. */
export type Tensors = ReadonlyMap<string, Float32Array>;

/** How many numbers a parameter holds. */
export function sizeOf({ shape }: Parameter): number {
  return shape.reduce<number>((product, n) => product * n, 1);
}

/** @throws InputError for no parameters, a name that is empty or taken, an unknown kind, or a shape unfit for its kind */
export function checkParameters(what: string, parameters: readonly Parameter[]): void {
  if (parameters.length === 0) throw new InputError(`${what}: expected at least one parameter, got none`);
  const names = new Set<string>();
  for (const { name, shape, kind } of parameters) {
    if (typeof name !== "string" || name === "")
      throw new InputError(`${what}: expected a name for each parameter, got ${JSON.stringify(name)}`);
    if (names.has(name)) throw new InputError(`${what}: two parameters are named "${name}"; rename one`);
    names.add(name);
    if (kind !== "matrix" && kind !== "vocabulary" && kind !== "vector")
      throw new InputError(
        `${what}: parameter "${name}": expected the kind "matrix", "vocabulary" or "vector", got ${JSON.stringify(kind)}`,
      );
    const dimensions = kind === "vector" ? 1 : 2;
    if (
      !Array.isArray(shape) ||
      shape.length !== dimensions ||
      shape.some((n) => !Number.isSafeInteger(n) || n < 1)
    )
      throw new InputError(
        `${what}: parameter "${name}": expected a ${kind}'s shape ${dimensions === 1 ? "[length]" : "[rows, cols]"} of whole numbers from 1, got ${JSON.stringify(shape)}`,
      );
  }
}

/**
 * Holds arrays to the names and lengths they must have.
 * @throws InputError naming the first that is missing, unknown, no Float32Array, of another length, or not finite
 */
export function checkTensors(what: string, tensors: Tensors, lengths: ReadonlyMap<string, number>): void {
  if (!(tensors instanceof Map))
    throw new InputError(`${what}: expected a Map of names to Float32Arrays, got ${typeName(tensors)}`);
  for (const [name, length] of lengths) {
    const tensor = tensors.get(name);
    if (!tensor) throw new InputError(`${what}: "${name}" is missing; expected ${length} numbers`);
    if (!(tensor instanceof Float32Array))
      throw new InputError(`${what}: "${name}": expected a Float32Array, got ${typeName(tensor)}`);
    if (tensor.length !== length)
      throw new InputError(`${what}: "${name}": expected ${length} numbers, got ${tensor.length}`);
    checkFinite(what, name, tensor);
  }
  for (const name of tensors.keys())
    if (!lengths.has(name))
      throw new InputError(`${what}: "${name}" is unknown; the names are ${[...lengths.keys()].join(", ")}`);
}

/** @throws InputError naming the first place that holds NaN or an infinity */
export function checkFinite(what: string, name: string, tensor: Float32Array): void {
  const i = tensor.findIndex((x) => !Number.isFinite(x));
  if (i >= 0)
    throw new InputError(`${what}: "${name}": expected finite numbers, got ${tensor[i]} at index ${i}`);
}

/** @throws InputError when the arrays of one step differ in length */
export function checkSameLength(what: string, arrays: Readonly<Record<string, Float32Array>>): void {
  const [[first, { length }], ...others] = Object.entries(arrays);
  for (const [name, array] of others)
    if (array.length !== length)
      throw new InputError(
        `${what}: ${name} holds ${array.length} numbers; expected ${length}, as ${first} does`,
      );
}

/** @throws InputError unless `value` has the parameter's shape and there are `count` states */
export function checkMatrices(
  what: string,
  { name, shape }: Parameter,
  value: Matrix,
  states: readonly Matrix[],
  count: number,
): void {
  const [rows, cols] = shape.length === 1 ? [1, shape[0]] : shape;
  if (value.rows !== rows || value.cols !== cols)
    throw new InputError(
      `${what}: "${name}": expected a matrix [${rows}, ${cols}], got [${value.rows}, ${value.cols}]`,
    );
  if (states.length !== count)
    throw new InputError(`${what}: "${name}": expected ${count} states, got ${states.length}`);
}

function typeName(value: unknown): string {
  return Object(value) === value ? ((value as object).constructor?.name ?? "object") : String(value);
}

/** Holds a parameter's state `v`, an average of squares, to its range. @throws InputError */
export function checkMoments(what: string, parameter: string, tensors: Tensors): void {
  const name = `${parameter}.v`;
  const least = tensors.get(name)?.find((x) => x < 0);
  if (least !== undefined)
    throw new InputError(`${what}: "${name}": expected second moments from 0, got ${least}`);
}
