import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device, Matrix } from "../../src/kernels/device.js";
import type { Program } from "../../src/kernels/op.js";
import { openDevice } from "../../src/kernels/open.js";
import type { Gradients } from "../../src/kernels/tape.js";
import { trainingPlan } from "../../src/kernels/training.js";
import { devices } from "../devices.js";
import { everyOp } from "./programs.js";
import { floats } from "./random.js";
import {
  dot,
  gradientsOf,
  near,
  numbersOf,
  proveGradients,
  shapes,
  twice,
  vectorsOf,
  zeros,
} from "./tapes.js";

const call = { lengths: [5, 1, 4], ids: Int32Array.of(3, 9, 3, 49, 0, 7, 7, 8, 3, 1) };
const N = call.ids.length;

describe("the reference", () => {
  test.each(shapes.slice(0, 2))("has the gradients of finite differences (%#)", async (shape) => {
    const device = await openDevice({ device: "reference" });
    const make = async (from: Device) => {
      const { program, matrices } = await everyOp(from, shape);
      return { program: twice(program), matrices };
    };
    await proveGradients(device, make, call, floats(N * shape.D, 77));
    await device.close();
  });

  test("runs a plan's forward to the program's own bits, and never writes what its way back reads", async () => {
    const device = await openDevice({ device: "reference" });
    for (const shape of shapes) {
      const program = twice((await everyOp(device, shape)).program);
      const tape = await device.record(program, call);
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
});

/** Ops that write a buffer after another has read it. */
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

test("the WebAssembly device agrees with the reference, with the same bits for any threads", async () => {
  const reference = await openDevice({ device: "reference" });
  const one = await openDevice({ device: "wasm", threads: 1 });
  const three = await openDevice({ device: "wasm", threads: 3 });
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...shapes),
      fc.constantFrom("silu", "geluTanh", "geluErf", "relu", "tanh"),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 }),
      async (shape, activation, lengths) => {
        const rows = lengths.reduce((a, b) => a + b, 0);
        const run = { lengths, ids: Int32Array.from({ length: rows }, (_, i) => (i * 17 + 5) % 50) };
        const gradient = floats(rows * shape.D, 3);
        const found = [];
        for (const device of [reference, one, three]) {
          const { program, matrices } = await everyOp(device, { ...shape, activation });
          const before = device.memory;
          found.push(await gradientsOf(device, twice(program), matrices, run, gradient));
          expect(device.memory).toBeGreaterThanOrEqual(before); // gradients are held; the tape is not
          for (const m of matrices) m.free();
        }
        const [wanted, mine, threads] = found;
        expect(threads).toEqual(mine);
        for (const [i, m] of mine.matrices.entries()) near(m, wanted.matrices[i]);
        for (const [i, v] of mine.vectors.entries()) near(v, wanted.vectors[i]);
      },
    ),
    { numRuns: 25, seed: 11 },
  );
  for (const device of [reference, one, three]) await device.close();
});

const matrixOf = (device: Device, rows: number, cols: number, seed: number) =>
  device.matrix({
    name: `w${seed}`,
    rows,
    cols,
    type: "f32",
    read: async (first, count) =>
      new Uint8Array(floats(rows * cols, seed).slice(first * cols, (first + count) * cols).buffer),
  });

test("threads wait where a product reads what others wrote, or writes columns split in another way", async () => {
  const one = await openDevice({ device: "wasm", threads: 1 });
  const four = await openDevice({ device: "wasm", threads: 4 });
  const run = async (device: Device, times: number) => {
    const square = await matrixOf(device, 256, 256, 1);
    const shifted = await matrixOf(device, 252, 256, 2);
    const program: Program = {
      buffers: { x: 256, y: 256, z: 256 },
      ops: [
        { op: "act", kind: "tanh", buffer: "x" },
        { op: "matmul", in: "x", out: "y", outColumn: 0, weight: square, accumulate: false },
        { op: "matmul", in: "y", out: "z", outColumn: 0, weight: square, accumulate: false },
        { op: "copy", in: "y", out: "x" },
        { op: "matmul", in: "z", out: "x", outColumn: 4, weight: shifted, accumulate: false },
        { op: "act", kind: "tanh", buffer: "x" },
      ],
      cache: [],
      maxPositions: 64,
    };
    const vectors = { into: "x", data: floats(3 * 256, 7) };
    const found = [];
    for (let i = 0; i < times; i++) {
      const segments = [{ cache: device.cache(program), rows: 3 }];
      found.push((await device.run(program, { segments, vectors, outputs: [{ buffer: "x" }] }))[0]);
    }
    return found;
  };
  const [wanted] = await run(one, 1);
  for (const found of await run(four, 60)) expect(found).toEqual(wanted);
  await one.close();
  await four.close();
});

describe.each(devices)("Device.record: %s", async (_, open) => {
  test("a sequence's gradients do not depend on what it is packed with", async () => {
    const device = await open();
    const { program, matrices } = await everyOp(device, shapes[0]);
    const lengths = [3, 1, 4];
    const ids = Int32Array.from({ length: 8 }, (_, i) => (i * 17 + 5) % 50);
    const gradient = floats(8 * shapes[0].D, 3);
    const together = await gradientsOf(device, program, matrices, { lengths, ids }, gradient);
    const apart = together.matrices.map((m) => new Float32Array(m.length));
    let first = 0;
    for (const length of lengths) {
      const part = await gradientsOf(
        device,
        program,
        matrices,
        { lengths: [length], ids: ids.slice(first, first + length) },
        gradient.slice(first * shapes[0].D, (first + length) * shapes[0].D),
      );
      for (const [i, m] of part.matrices.entries()) for (const [j, x] of m.entries()) apart[i][j] += x;
      first += length;
    }
    for (const [i, m] of together.matrices.entries()) near(m, apart[i]);
    await device.close();
  });

  test("gives the gradient by given vectors, leaves frozen parameters alone, and gives memory back", async () => {
    const device = await open();
    const { program } = await everyOp(device, shapes[0]);
    const body = { ...program, ops: program.ops.slice(1) };
    const data = floats(N * 6, 8);
    const before = device.memory;
    const tape = await device.record(body, { lengths: call.lengths, vectors: { into: "x", data } });
    const gradient = floats(N * 6, 9);
    const nothing = { matrices: new Map(), vectors: new Map() };
    const dx = (await tape.backward({ buffer: "x", gradient }, nothing))!;
    // Along a direction, as finite differences have it.
    const direction = floats(N * 6, 10);
    const losses: number[] = [];
    for (const step of [3e-3, -3e-3]) {
      const there = data.map((x, i) => x + step * direction[i]);
      const other = await device.record(body, {
        lengths: call.lengths,
        vectors: { into: "x", data: there },
      });
      losses.push(dot(other.output("x"), gradient));
      other.free();
    }
    const numeric = (losses[0] - losses[1]) / 6e-3;
    expect(Math.abs(numeric - dot(dx, direction))).toBeLessThan(4e-3 * (1 + Math.abs(numeric)));
    tape.free();
    tape.free();
    expect(() => tape.output("x")).toThrow(/this tape was freed/);
    if (device.kind === "reference") expect(device.memory).toBe(before);
    await device.close();
  });

  test("a norm between products that fill one buffer, and a copy onto itself", async () => {
    const device = await open();
    const weight = await matrixOf(device, 16, 4, 3);
    const norm = { op: "norm", kind: "rms", group: 16, eps: 1e-5 } as const;
    const program: Program = {
      buffers: { x: 4, b: 32 },
      ops: [
        { op: "matmul", in: "x", out: "b", outColumn: 0, weight, accumulate: false },
        { ...norm, in: "b", out: "b", column: 0, columns: 16 },
        { op: "matmul", in: "x", out: "b", outColumn: 16, weight, accumulate: false },
        { op: "copy", in: "b", out: "b" },
      ],
      cache: [],
      maxPositions: 8,
    };
    const gradient = floats(64, 2);
    const found: Float32Array[] = [];
    for (const ops of [program.ops, program.ops.slice(0, 3)]) {
      const tape = await device.record(
        { ...program, ops },
        { lengths: [2], vectors: { into: "x", data: floats(8, 1) } },
      );
      const nothing = { matrices: new Map(), vectors: new Map() };
      found.push((await tape.backward({ buffer: "b", gradient }, nothing))!);
    }
    expect(found[0]).toEqual(found[1]);
    expect(found[0].some((x) => x !== 0)).toBe(true);
    await device.close();
  });

  test("the call's arrays may change after it", async () => {
    const device = await open();
    const { program, matrices } = await everyOp(device, shapes[0]);
    const gradient = floats(N * 6, 2);
    const found: Float32Array[] = [];
    for (const spoil of [false, true]) {
      const mine = { lengths: [...call.lengths], ids: call.ids.slice() };
      const tape = await device.record(program, mine);
      if (spoil) mine.ids.fill(1e9);
      if (spoil) mine.lengths.fill(1);
      const table = await zeros(device, matrices[0]);
      const into = { matrices: new Map([[matrices[0], table]]), vectors: new Map() };
      await tape.backward({ buffer: "x", gradient }, into);
      found.push(await numbersOf(table));
    }
    expect(found[1]).toEqual(found[0]);
    await device.close();
  });

  test("refuses what does not fit", async () => {
    const device = await open();
    const { program, matrices } = await everyOp(device, shapes[0]);
    const tape = await device.record(program, call);
    const nothing = { matrices: new Map<Matrix, Matrix>(), vectors: new Map<Float32Array, Float32Array>() };
    const back = (buffer: string, numbers: number, into: Gradients = nothing) =>
      tape.backward({ buffer, gradient: new Float32Array(numbers) }, into);
    await expect(back("x", 3)).rejects.toThrow(/gradient of "x": expected 60 numbers, got 3/);
    await expect(back("constructor", 60)).rejects.toThrow(/unknown buffer "constructor"/);
    const [table, positions] = matrices;
    await expect(back("x", 60, { ...nothing, matrices: new Map([[table, positions]]) })).rejects.toThrow(
      /expected a float32 matrix \[50, 6\], got f32 \[66, 6\]/,
    );
    const [vector] = vectorsOf(program);
    await expect(
      back("x", 60, { ...nothing, vectors: new Map([[vector, new Float32Array(1)]]) }),
    ).rejects.toThrow(/gradient of a vector of 6 numbers: 1 came/);
    await expect(back("x", 60, { ...nothing, matrices: new Map([[table, table]]) })).rejects.toThrow(
      /parameter of the program can't receive gradients/,
    );
    await expect(device.record(program, { ...call, ids: call.ids.map(() => 50) })).rejects.toThrow(/50/);
    await expect(device.record(program, { ...call, lengths: [3] })).rejects.toThrow(/ids/);
    await device.close();
  });
});
