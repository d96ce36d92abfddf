import { InputError } from "../../errors.js";
import type { Device, Matrix } from "../../kernels/device.js";
import type { MatrixUpdate } from "../../kernels/optimize.js";
import { arraySource } from "../../model/formats/sources.js";
import type { Update } from "../optimizers/optimizer.js";
import { checkMoments, sizeOf } from "../optimizers/parameter.js";
import type { ModelParameter } from "./parameters.js";

/** A part of an optimizer's state; `read` gives its numbers as they are at that moment. */
export interface StateTensor {
  readonly name: string;
  readonly length: number;
  read(): Promise<Float32Array>;
}

/** A value with its gradient and its optimizer's state, all on the device or all on the host. */
interface Held<T> {
  readonly value: T;
  readonly gradient: T;
  states: readonly T[];
}

/** One parameter while it is trained: matrices on the device, vectors on the host. */
export class Slot {
  private constructor(
    readonly parameter: ModelParameter,
    private readonly update: Update,
    readonly matrix: Held<Matrix> | undefined,
    readonly vector: Held<Float32Array> | undefined,
  ) {}

  /** @throws InputError when gradient and state do not fit the device */
  static async create(device: Device, parameter: ModelParameter, update: Update): Promise<Slot> {
    const { value } = parameter;
    if (value instanceof Float32Array) {
      const states = update.states.map(() => new Float32Array(value.length));
      return new Slot(parameter, update, undefined, {
        value,
        gradient: new Float32Array(value.length),
        states,
      });
    }
    const made: Matrix[] = [];
    try {
      for (const what of ["gradient", ...update.states])
        made.push(await zeros(device, `${what} of ${parameter.name}`, value));
    } catch (error) {
      for (const matrix of made) matrix.free();
      throw error;
    }
    const [gradient, ...states] = made;
    return new Slot(parameter, update, { value, gradient, states }, undefined);
  }

  /** Names of what `states` gives. */
  get stateNames(): string[] {
    const { name } = this.parameter;
    const own = this.vector ? [`${name}.value`] : [];
    return [...own, ...this.update.states.map((state) => `${name}.${state}`)];
  }

  /** The step of a matrix, for the device. */
  onDevice(learningRate: number, step: number, factor: number): MatrixUpdate[] {
    if (!this.matrix) return [];
    const { value, gradient, states } = this.matrix;
    const rate = learningRate * this.update.learningRateScale;
    return [this.update.onDevice(value, gradient, states, rate, step, factor)];
  }

  /** The step of a vector. @throws InputError when it has left float32's range */
  onHost(learningRate: number, step: number, factor: number): void {
    if (!this.vector) return;
    const { value, gradient, states } = this.vector;
    const rate = learningRate * this.update.learningRateScale;
    if (factor !== 1) for (let i = 0; i < gradient.length; i++) gradient[i] *= factor;
    this.update.apply(value, gradient, states, rate, step);
    for (const array of [value, ...states])
      if (!array.every(Number.isFinite))
        throw new InputError(
          `${this.parameter.name} left the range of float32; restore a checkpoint and take a lower learning rate`,
        );
  }

  /**
   * The optimizer's state, in the order of `stateNames`. A vector's own numbers stand before it: a checkpoint holds some
   * in another form (Gemma's norms less 1), which may have lost a bit.
   */
  states(): StateTensor[] {
    const { matrix, vector } = this;
    const length = sizeOf(this.parameter);
    const reads = vector
      ? [vector.value, ...vector.states].map((array) => async () => array.slice())
      : matrix!.states.map((state) => () => numbersOf(state));
    return this.stateNames.map((name, i) => ({ name, length, read: reads[i] }));
  }

  /** @throws InputError for averages of squares below 0 */
  checkMoments(tensors: ReadonlyMap<string, Float32Array>): void {
    if (this.update.states.includes("v"))
      checkMoments("Trainer.restore: state", this.parameter.name, tensors);
  }

  /** @param tensors that `checkTensors` has found to be `stateNames`' */
  async restore(device: Device, tensors: ReadonlyMap<string, Float32Array>): Promise<void> {
    const numbers = this.stateNames.map((name) => tensors.get(name)!);
    const { vector, matrix } = this;
    if (vector) for (const [i, array] of [vector.value, ...vector.states].entries()) array.set(numbers[i]);
    if (!matrix) return;
    const { rows, cols } = matrix.value;
    for (const [i, name] of this.stateNames.entries()) {
      const restored = await device.matrix(arraySource(name, rows, cols, numbers[i]));
      const before = matrix.states[i];
      matrix.states = matrix.states.with(i, restored);
      before.free();
    }
  }

  /** Gives the memory of gradient and state back. */
  free(): void {
    if (!this.matrix) return;
    for (const matrix of [this.matrix.gradient, ...this.matrix.states]) matrix.free();
  }
}

/** All numbers of a matrix, [rows, cols]. */
export function numbersOf(matrix: Matrix): Promise<Float32Array> {
  return matrix.gather(Int32Array.from({ length: matrix.rows }, (_, row) => row));
}

/** A float32 matrix of zeros in the shape of another. */
export function zeros(device: Device, name: string, { rows, cols }: Matrix): Promise<Matrix> {
  const read = async (_: number, count: number) => new Uint8Array(count * cols * 4);
  return device.matrix({ name, rows, cols, type: "f32", read });
}
