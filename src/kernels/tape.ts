import { checkFields, InputError } from "../errors.js";
import { blocksOf } from "./blocks.js";
import type { Matrix } from "./device.js";
import type { Program } from "./op.js";
import { checkProgram } from "./program.js";

/** Which masks a recorded run draws; every run of a training takes others. */
export interface DropoutDraw {
  /** A whole number in [0, 2^53). */
  readonly seed: number;
  /** The training's step, a whole number in [0, 2^53). */
  readonly step: number;
  /** The batch within an accumulated step, a whole number in [0, 2^53). Default 0. */
  readonly batch?: number;
}

/** What a recorded run reads: sequences of `lengths` rows each (every one begins at position 0), packed, N = Σ lengths. */
export interface RecordCall {
  readonly lengths: readonly number[];
  /** [N], for programs that begin with an `embed`. */
  readonly ids?: Int32Array;
  /** [N, width of `into`], for programs without one. */
  readonly vectors?: { readonly into: string; readonly data: Float32Array };
  /** Which numbers the program's `dropout` ops drop: for programs that have some, and no others. */
  readonly dropout?: DropoutDraw;
  /**
   * Keeps only what enters each block of the program (`Program.checkpoints`; gradient checkpointing, Chen and others, 2016);
   * `backward` runs each block again before it walks it back. The same bits in less memory, for about one more forward.
   * The reference keeps everything all the same. Default false.
   */
  readonly recompute?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Where gradients go: each is added to what its parameter names. A parameter that is not here is frozen.
 * A matrix that stands in two places (tied, or shared by layers) receives the gradients of both.
 */
export interface Gradients {
  /** To a float32 matrix of the same shape on the same device. */
  readonly matrices: ReadonlyMap<Matrix, Matrix>;
  /** Vectors of a program (biases, norms' weights), to arrays of the same length. */
  readonly vectors: ReadonlyMap<Float32Array, Float32Array>;
}

/** A run that remembers what its way back reads. */
export interface Tape {
  /** Bytes that it holds until `free`. */
  readonly bytes: number;
  /** A buffer [N, width] as the program left it. With `recompute`, `backward` lets the last block's go: read them before it. */
  output(buffer: string): Float32Array;
  /**
   * Walks the program back. After a call that failed or was aborted, what stands in `into` is not to be used.
   * @param from a buffer, and the gradient of a loss by what the program left in it, [N, width]
   * @returns the gradient by the vectors that the call gave, [N, width]; undefined when it gave ids
   * @throws InputError for gradients of another size; AbortError
   */
  backward(
    from: { readonly buffer: string; readonly gradient: Float32Array },
    into: Gradients,
    signal?: AbortSignal,
  ): Promise<Float32Array | undefined>;
  /** Gives the memory back. Using the tape afterwards is an error. */
  free(): void;
}

/**
 * Checks what a recorded run needs beside what every run does (see `checkRun`).
 * @throws InputError naming the option, what was expected and what came
 */
export function checkRecord(program: Program, call: RecordCall): void {
  checkFields("record", call, ["lengths", "ids", "vectors", "dropout", "recompute", "signal"]);
  const { drops } = checkProgram(program);
  const { dropout, recompute = false, lengths } = call;
  if (!Array.isArray(lengths) || lengths.every((rows) => rows === 0))
    throw new InputError("record: lengths: expected the rows of each sequence, at least one row, got none");
  if (typeof recompute !== "boolean")
    throw new InputError(`record: recompute: expected true or false, got ${JSON.stringify(recompute)}`);
  if (recompute) blocksOf(program);
  if (drops && !dropout)
    throw new InputError("record: this program drops numbers; give dropout: { seed, step }");
  if (!dropout) return;
  if (!drops) throw new InputError("record: dropout came, but this program has no dropout ops");
  checkFields("record: dropout", dropout, ["seed", "step", "batch"]);
  const { seed, step, batch = 0 } = dropout;
  for (const [name, number] of Object.entries({ seed, step, batch }))
    if (!(Number.isSafeInteger(number) && number >= 0))
      throw new InputError(
        `record: dropout.${name}: expected a whole number from 0 to 2^53 - 1, got ${number}`,
      );
}

/**
 * Checks what a tape is to walk back from, and where its gradients are to go.
 * @throws InputError naming the buffer or parameter, what was expected and what came
 */
export function checkBackward(
  program: Program,
  N: number,
  from: { readonly buffer: string; readonly gradient: Float32Array },
  into: Gradients,
): void {
  const { buffers } = program;
  if (!Object.hasOwn(buffers, from.buffer))
    throw new InputError(
      `backward: unknown buffer "${from.buffer}"; the program has ${Object.keys(buffers).join(", ")}`,
    );
  const size = N * buffers[from.buffer];
  if (from.gradient.length !== size)
    throw new InputError(
      `backward: gradient of "${from.buffer}": expected ${size} numbers, got ${from.gradient.length}`,
    );
  for (const [{ name, rows, cols }, gradient] of into.matrices) {
    const { rows: r, cols: c, type } = gradient;
    if (r !== rows || c !== cols || type !== "f32")
      throw new InputError(
        `backward: gradient of ${name}: expected a float32 matrix [${rows}, ${cols}], got ${type} [${r}, ${c}]`,
      );
  }
  for (const [vector, gradient] of into.vectors)
    if (gradient.length !== vector.length)
      throw new InputError(
        `backward: gradient of a vector of ${vector.length} numbers: ${gradient.length} came`,
      );
  const read = new Set<unknown>(
    program.ops.flatMap((op) =>
      op.op === "matmul" || op.op === "norm" ? [op.weight, op.bias] : "table" in op ? [op.table] : [],
    ),
  );
  for (const gradient of [...into.matrices.values(), ...into.vectors.values()])
    if (read.has(gradient))
      throw new InputError(
        "backward: a parameter of the program can't receive gradients; give another matrix or array, of zeros",
      );
}
