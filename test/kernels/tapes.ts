import { expect } from "vitest";
import type { Device, Matrix, MatrixSource } from "../../src/kernels/device.js";
import type { Program } from "../../src/kernels/op.js";
import type { Gradients, RecordCall } from "../../src/kernels/tape.js";
import type { Shape } from "./programs.js";
import { floats } from "./random.js";

const base = { type: "f32", layout: "half", activation: "silu", norm: "rms" } as const;
/** Heads that share keys, odd widths, every kind of norm and rope. */
export const shapes: Shape[] = [
  { ...base, D: 6, heads: 4, kvHeads: 2, headDim: 4, F: 7, pairs: 2 },
  {
    ...base,
    D: 5,
    heads: 3,
    kvHeads: 3,
    headDim: 6,
    F: 4,
    pairs: 3,
    layout: "interleaved",
    window: 3,
    softcap: 2,
    activation: "geluTanh",
    norm: "layer",
  },
  { ...base, D: 17, heads: 2, kvHeads: 1, headDim: 18, F: 33, pairs: 9, activation: "geluErf" },
  { ...base, D: 16, heads: 1, kvHeads: 1, headDim: 16, F: 16, pairs: 4, activation: "relu", norm: "layer" },
];

/** Two layers of the same weights, as ALBERT's: everything but what makes x runs twice. */
export function twice(program: Program): Program {
  const { ops, cache } = program;
  const again = ops.slice(3).map((op) => (op.op === "attention" ? { ...op, layer: 1 } : op));
  return { ...program, ops: [...ops, ...again], cache: [...cache, ...cache] };
}

/** A device whose matrices are those of the sources plus `by` times a direction, which differs from matrix to matrix. */
function moved(device: Device, by: (index: number) => number): Device {
  let index = 0;
  return new Proxy(device, {
    get(target, key) {
      if (key !== "matrix") return Reflect.get(target, key).bind?.(target) ?? Reflect.get(target, key);
      return (source: MatrixSource) => {
        const step = by(index);
        const direction = floats(source.rows * source.cols, 900 + index++);
        const read = async (first: number, count: number) => {
          const bytes = (await source.read(first, count)).slice();
          const numbers = new Float32Array(bytes.buffer);
          for (let i = 0; i < numbers.length; i++) numbers[i] += step * direction[first * source.cols + i];
          return bytes;
        };
        return target.matrix({ ...source, read });
      };
    },
  });
}

export const vectorsOf = (program: Program) => [
  ...new Set(
    program.ops.flatMap((op) =>
      op.op === "norm" ? [op.weight!, op.bias!] : op.op === "matmul" && op.bias ? [op.bias] : [],
    ),
  ),
];

export const zeros = (device: Device, { name, rows, cols }: Matrix) =>
  device.matrix({
    name: `gradient of ${name}`,
    rows,
    cols,
    type: "f32",
    read: async (_, count) => new Uint8Array(count * cols * 4),
  });
export const numbersOf = (matrix: Matrix) => matrix.gather(Array.from({ length: matrix.rows }, (_, i) => i));

/** Gradients of all parameters of a run, by their place in the program. */
export async function gradientsOf(
  device: Device,
  program: Program,
  matrices: readonly Matrix[],
  run: RecordCall,
  gradient: Float32Array,
): Promise<{ matrices: Float32Array[]; vectors: Float32Array[] }> {
  const tape = await device.record(program, run);
  const into: Gradients = {
    matrices: new Map(
      await Promise.all(matrices.map(async (m): Promise<[Matrix, Matrix]> => [m, await zeros(device, m)])),
    ),
    vectors: new Map(vectorsOf(program).map((v) => [v, new Float32Array(v.length)])),
  };
  expect(await tape.backward({ buffer: "x", gradient }, into)).toBeUndefined();
  tape.free();
  return {
    matrices: await Promise.all([...into.matrices.values()].map(numbersOf)),
    vectors: [...into.vectors.values()],
  };
}

/** Σ a·b. */
export const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/** Holds the reference's gradients of every matrix and vector to finite differences along a direction. */
export async function proveGradients(
  device: Device,
  make: (from: Device) => Promise<{ program: Program; matrices: Matrix[] }>,
  call: RecordCall,
  wanted: Float32Array,
): Promise<void> {
  const { program, matrices } = await make(device);
  const exact = await gradientsOf(device, program, matrices, call, wanted);

  const eps = 3e-3;
  const along = async (change: (step: number) => Promise<Program>) => {
    const losses: number[] = [];
    for (const sign of [1, -1])
      losses.push(dot((await device.record(await change(sign * eps), call)).output("x"), wanted));
    return (losses[0] - losses[1]) / (2 * eps);
  };
  const close = (numeric: number, analytic: number, what: string) =>
    expect(Math.abs(numeric - analytic), `${what}: ${numeric}, ${analytic}`).toBeLessThan(
      4e-3 * (1 + Math.abs(analytic)),
    );
  for (const [index, matrix] of matrices.entries()) {
    const numeric = await along(
      async (step) => (await make(moved(device, (i) => (i === index ? step : 0)))).program,
    );
    const analytic = dot(exact.matrices[index], floats(matrix.rows * matrix.cols, 900 + index));
    expect(analytic).not.toBe(0);
    close(numeric, analytic, `matrix ${index}`);
  }
  for (const [index, vector] of vectorsOf(program).entries()) {
    const direction = floats(vector.length, 500 + index);
    const numeric = await along(async (step) => {
      const other = (await make(device)).program;
      vectorsOf(other)[index].forEach((x, i, all) => {
        all[i] = x + step * direction[i];
      });
      return other;
    });
    close(numeric, dot(exact.vectors[index], direction), `vector ${index}`);
  }
}

/** Equal but for rounding. */
export const near = (a: Float32Array, b: Float32Array) => {
  expect(a.length).toBe(b.length);
  const size = b.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-3);
  a.forEach((x, i) => {
    expect(Math.abs(x - b[i]), `${x}, ${b[i]}`).toBeLessThan(2e-5 * size);
  });
};
