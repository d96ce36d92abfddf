import fc from "fast-check";
import { expect, test } from "vitest";
import type { Device, Matrix, MatrixSource } from "../../../src/kernels/device.js";
import type { Program } from "../../../src/kernels/op.js";
import { openDevice } from "../../../src/kernels/open.js";
import { type Gradients, ReferenceTape } from "../../../src/kernels/reference/tape.js";
import { trainingPlan } from "../../../src/kernels/training.js";
import { everyOp, type Shape } from "../programs.js";
import { floats } from "../random.js";

const shapes: Shape[] = [
  {
    D: 6,
    heads: 4,
    kvHeads: 2,
    headDim: 4,
    F: 7,
    type: "f32",
    layout: "half",
    pairs: 2,
    activation: "silu",
    norm: "rms",
  },
  {
    D: 5,
    heads: 3,
    kvHeads: 3,
    headDim: 6,
    F: 4,
    type: "f32",
    layout: "interleaved",
    pairs: 3,
    window: 3,
    softcap: 2,
    activation: "geluTanh",
    norm: "layer",
  },
];
const call = { lengths: [5, 1, 4], ids: Int32Array.of(3, 9, 3, 49, 0, 7, 7, 8, 3, 1) };
const N = call.ids.length;

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

/** Two layers of the same weights, as ALBERT's: everything but what makes x runs twice. */
function twice(program: Program): Program {
  const { ops, cache } = program;
  const again = ops.slice(3).map((op) => (op.op === "attention" ? { ...op, layer: 1 } : op));
  return { ...program, ops: [...ops, ...again], cache: [...cache, ...cache] };
}

const vectorsOf = (program: Program) => [
  ...new Set(
    program.ops.flatMap((op) =>
      op.op === "norm" ? [op.weight!, op.bias!] : op.op === "matmul" && op.bias ? [op.bias] : [],
    ),
  ),
];

test.each(shapes)("gradients of every parameter are those of finite differences (%#)", async (shape) => {
  const device = await openDevice({ device: "reference" });
  const wanted = floats(N * shape.D, 77);
  const loss = (tape: ReferenceTape) => tape.output("x").reduce((sum, x, i) => sum + x * wanted[i], 0);

  const { program: once, matrices } = await everyOp(device, shape);
  const program = twice(once);
  const tape = await ReferenceTape.record(device, program, call);
  const into: Gradients = {
    matrices: new Map(matrices.map((m): [Matrix, Float32Array] => [m, new Float32Array(m.rows * m.cols)])),
    vectors: new Map(vectorsOf(program).map((v) => [v, new Float32Array(v.length)])),
  };
  tape.backward({ buffer: "x", gradient: wanted }, into);
  const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i], 0);

  const eps = 3e-3;
  const along = async (change: (sign: number) => Promise<Program>) => {
    const losses: number[] = [];
    for (const sign of [1, -1])
      losses.push(loss(await ReferenceTape.record(device, await change(sign * eps), call)));
    return (losses[0] - losses[1]) / (2 * eps);
  };
  for (const [index, matrix] of matrices.entries()) {
    const numeric = await along(async (step) => {
      const other = moved(device, (i) => (i === index ? step : 0));
      return twice((await everyOp(other, shape)).program);
    });
    const exact = dot(into.matrices.get(matrix)!, floats(matrix.rows * matrix.cols, 900 + index));
    expect(exact, matrix.name).not.toBe(0);
    expect(Math.abs(numeric - exact), `${matrix.name}: ${numeric}, ${exact}`).toBeLessThan(
      4e-3 * (1 + Math.abs(exact)),
    );
  }
  for (const [index, vector] of vectorsOf(program).entries()) {
    const direction = floats(vector.length, 500 + index);
    const numeric = await along(async (step) => {
      const { program: once } = await everyOp(device, shape);
      const other = twice(once);
      vectorsOf(other)[index].forEach((x, i, all) => {
        all[i] = x + step * direction[i];
      });
      return other;
    });
    const exact = dot(into.vectors.get(vector)!, direction);
    expect(Math.abs(numeric - exact), `vector ${index}: ${numeric}, ${exact}`).toBeLessThan(
      4e-3 * (1 + Math.abs(exact)),
    );
  }
  await device.close();
});

test("the forward of a plan gives the program's own bits, and changes no input of its backward", async () => {
  const device = await openDevice({ device: "reference" });
  for (const shape of shapes) {
    const program = twice((await everyOp(device, shape)).program);
    const tape = await ReferenceTape.record(device, program, call);
    const segments = call.lengths.map((rows) => ({ cache: device.cache(program), rows }));
    const outputs = Object.keys(program.buffers).map((buffer) => ({ buffer }));
    const own = await device.run(program, { segments, ids: call.ids, outputs });
    for (const [i, { buffer }] of outputs.entries()) expect(tape.output(buffer)).toEqual(own[i]);

    const { forward, backward } = trainingPlan(program);
    for (const { input, up } of backward)
      for (const kept of [input, up]) if (kept) expect(writesAfterReads(forward, kept)).toEqual([]);
  }
  await device.close();
});

/** Ops that write a buffer after another has read it, though they do not begin it anew. */
function writesAfterReads(program: Program, buffer: string): number[] {
  const late: number[] = [];
  let read = false;
  for (const [i, op] of program.ops.entries()) {
    const writes = "out" in op ? op.out : "buffer" in op ? op.buffer : undefined;
    if (read && writes === buffer) late.push(i);
    if (op.op === "matmul" || op.op === "norm") read ||= op.in === buffer;
    else if (op.op === "attention") read ||= op.qkv === buffer;
    else if (op.op === "gate") read ||= op.gate === buffer || op.up === buffer;
  }
  return late;
}

test("a sequence's gradients do not depend on what it is packed with", async () => {
  const device = await openDevice({ device: "reference" });
  const { program, matrices } = await everyOp(device, shapes[0]);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 }),
      async (lengths) => {
        const rows = lengths.reduce((a, b) => a + b, 0);
        const ids = Int32Array.from({ length: rows }, (_, i) => (i * 17 + 5) % 50);
        const gradient = floats(rows * shapes[0].D, 3);
        const fresh = (): Gradients => ({
          matrices: new Map(matrices.map((m) => [m, new Float32Array(m.rows * m.cols)])),
          vectors: new Map(),
        });
        const together = fresh();
        const apart = fresh();
        (await ReferenceTape.record(device, program, { lengths, ids })).backward(
          { buffer: "x", gradient },
          together,
        );
        let first = 0;
        for (const length of lengths) {
          const part = { lengths: [length], ids: ids.slice(first, first + length) };
          (await ReferenceTape.record(device, program, part)).backward(
            { buffer: "x", gradient: gradient.slice(first * shapes[0].D, (first + length) * shapes[0].D) },
            apart,
          );
          first += length;
        }
        for (const m of matrices) {
          const a = together.matrices.get(m)!;
          const b = apart.matrices.get(m)!;
          a.forEach((x, i) => {
            expect(Math.abs(x - b[i])).toBeLessThan(1e-4 * (1 + Math.abs(x)));
          });
        }
      },
    ),
    { numRuns: 15, seed: 4 },
  );
  await device.close();
});

test("frozen parameters receive nothing, and a gradient of another size is refused", async () => {
  const device = await openDevice({ device: "reference" });
  const { program } = await everyOp(device, shapes[0]);
  const tape = await ReferenceTape.record(device, program, call);
  const nothing = { matrices: new Map(), vectors: new Map() };
  expect(tape.backward({ buffer: "x", gradient: floats(N * 6, 1) }, nothing)).toBeUndefined();
  expect(() => tape.backward({ buffer: "x", gradient: floats(3, 1) }, nothing)).toThrow(
    /gradient of "x": expected 60 numbers, got 3/,
  );
  await device.close();
});
