import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AbortError } from "../../src/errors.js";
import type { Device, Matrix } from "../../src/kernels/device.js";
import type { Op, Program } from "../../src/kernels/op.js";
import { openDevice } from "../../src/kernels/open.js";
import { devices } from "../devices.js";
import { everyOp } from "./programs.js";
import { floats } from "./random.js";
import { gradientsOf, numbersOf, shapes, twice, zeros } from "./tapes.js";

const call = { lengths: [5, 1, 4], ids: Int32Array.of(3, 9, 3, 49, 0, 7, 7, 8, 3, 1) };
const N = call.ids.length;
const draw = { seed: 3, step: 1 };
const recompute = true;
const nothing = { matrices: new Map(), vectors: new Map() };

/** Two layers behind an embedding, each a block; `start` is written in the first block alone. */
function blocks(program: Program): Program {
  const layer = program.ops.length - 3;
  return { ...twice(program), checkpoints: [3, 3 + layer] };
}

/** The same, where each layer's MLP drops. */
function dropping(program: Program): Program {
  const { ops, checkpoints = [], ...rest } = blocks(program);
  const acts = ops.flatMap((op, i) => (op.op === "act" ? [i] : []));
  const after = (at: number) => acts.filter((i) => i < at).length;
  return {
    ...rest,
    ops: ops.flatMap((op, i): Op[] => {
      const stream = acts.indexOf(i);
      return stream < 0 ? [op] : [op, { op: "dropout", buffer: "u", rate: 0.3, stream }];
    }),
    checkpoints: checkpoints.map((at) => at + after(at)),
  };
}

test("gradients have the same bits with and without, on every device, with and without dropout", async () => {
  const opened = await Promise.all(devices.map(([, open]) => open()));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...shapes),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      async (shape, lengths, drops) => {
        const rows = lengths.reduce((a, b) => a + b, 0);
        const ids = Int32Array.from({ length: rows }, (_, i) => (i * 17 + 5) % 50);
        const run = { lengths, ids, ...(drops && { dropout: draw }) };
        const gradient = floats(rows * shape.D, 3);
        for (const device of opened) {
          const { program, matrices } = await everyOp(device, shape);
          const whole = drops ? dropping(program) : blocks(program);
          const wanted = await gradientsOf(device, whole, matrices, run, gradient);
          expect(await gradientsOf(device, whole, matrices, { ...run, recompute }, gradient)).toEqual(wanted);
          for (const m of matrices) m.free();
        }
      },
    ),
    { numRuns: 12, seed: 11 },
  );
  await Promise.all(opened.map((device) => device.close()));
});

describe.each(devices)("%s", (_, open) => {
  test("every buffer is as the program left it", async () => {
    const device = await open();
    for (const shape of shapes) {
      const program = blocks((await everyOp(device, shape)).program);
      const all = { ...program, buffers: { ...program.buffers, unused: 3 } };
      const [kept, again] = [
        await device.record(all, call),
        await device.record(all, { ...call, recompute }),
      ];
      for (const buffer of Object.keys(program.buffers))
        expect(again.output(buffer), buffer).toEqual(kept.output(buffer));
      expect(again.output("unused")).toHaveLength(3 * N);
      kept.free();
      again.free();
    }
    await device.close();
  });

  test("gives the gradient by given vectors, which may change after the call", async () => {
    const device = await open();
    const { program } = await everyOp(device, shapes[0]);
    const { ops, checkpoints = [], ...rest } = blocks(program);
    const body = { ...rest, ops: ops.slice(1), checkpoints: checkpoints.map((at) => at - 1) };
    const data = floats(N * 6, 8);
    const gradient = floats(N * 6, 9);
    const back = async (again: boolean) => {
      const vectors = { into: "x", data: data.slice() };
      const tape = await device.record(body, { lengths: call.lengths, vectors, recompute: again });
      if (again) vectors.data.fill(1e9);
      const found = [await tape.backward({ buffer: "x", gradient }, nothing)];
      // A tape may be walked back again.
      found.push(await tape.backward({ buffer: "x", gradient }, nothing));
      tape.free();
      return found;
    };
    const [wanted] = await back(false);
    expect(wanted).toBeInstanceOf(Float32Array);
    expect(await back(true)).toEqual([wanted, wanted]);
    await device.close();
  });

  test("walks back from a buffer of an earlier block", async () => {
    const device = await open();
    const { program, matrices } = await everyOp(device, shapes[1]);
    const gradient = floats(N * 5, 4);
    const found: Float32Array[] = [];
    for (const again of [false, true]) {
      const tape = await device.record(blocks(program), { ...call, recompute: again });
      const table = await zeros(device, matrices[0]);
      await tape.backward(
        { buffer: "start", gradient },
        { matrices: new Map([[matrices[0], table]]), vectors: new Map() },
      );
      found.push(await numbersOf(table));
      tape.free();
    }
    expect(found[0].some((x) => x !== 0)).toBe(true);
    expect(found[1]).toEqual(found[0]);
    await device.close();
  });

  test("refuses a program that can't be cut so", async () => {
    const device = await open();
    const { program } = await everyOp(device, shapes[0]);
    const record = (checkpoints: number[] | undefined, over: Partial<Program> = {}) =>
      device.record({ ...twice(program), ...over, checkpoints }, { ...call, recompute });
    await expect(record(undefined)).rejects.toThrow(/this program has no checkpoints/);
    // Between a norm and what reads it two buffers go on.
    await expect(record([4])).rejects.toThrow(
      /the block from op 4 on does not run by itself: .* read before any op writes them: n, x; move/,
    );
    await expect(record([5])).rejects.toThrow(/the block from op 5 on does not run by itself/);
    await expect(
      record([1], { ops: [program.ops[0], program.ops[0], ...program.ops.slice(1)] }),
    ).rejects.toThrow(/the block from op 1 on reads nothing of what is before it/);
    const word = "yes" as unknown as boolean;
    await expect(device.record(blocks(program), { ...call, recompute: word })).rejects.toThrow(
      /record: recompute: expected true or false, got "yes"/,
    );
    await device.close();
  });
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

test("refuses a block that writes a part of what an earlier one wrote", async () => {
  const device = await openDevice({ device: "reference" });
  const [wide, narrow] = [await matrixOf(device, 8, 4, 1), await matrixOf(device, 4, 4, 2)];
  const product = { op: "matmul", in: "x", out: "b", outColumn: 0, accumulate: false } as const;
  const program: Program = {
    buffers: { x: 4, b: 8 },
    ops: [
      { ...product, weight: wide },
      { ...product, weight: narrow },
    ],
    cache: [],
    maxPositions: 8,
    checkpoints: [1],
  };
  const vectors = { into: "x", data: floats(8, 1) };
  await expect(device.record(program, { lengths: [2], vectors, recompute })).rejects.toThrow(
    /the block from op 1 on writes only a part of "b", which an earlier one wrote too/,
  );
  await device.close();
});

/** A stack of norms and products, as many blocks. */
async function stack(device: Device, layers: number): Promise<{ program: Program; weight: Matrix }> {
  const weight = await matrixOf(device, 64, 64, 1);
  const layer: Op[] = [
    { op: "norm", kind: "rms", in: "x", out: "n", column: 0, columns: 64, group: 64, eps: 1e-5 },
    { op: "matmul", in: "n", out: "u", outColumn: 0, weight, accumulate: false },
    { op: "act", kind: "silu", buffer: "u" },
    { op: "matmul", in: "u", out: "x", outColumn: 0, weight, accumulate: true },
  ];
  const ops = Array.from({ length: layers }, () => layer).flat();
  const checkpoints = Array.from({ length: layers - 1 }, (_, i) => 4 * (i + 1));
  return {
    program: { buffers: { x: 64, n: 64, u: 64 }, ops, cache: [], maxPositions: 64, checkpoints },
    weight,
  };
}

describe("memory", () => {
  test("holds one block and what enters each; all of it is given back", async () => {
    const device = await openDevice({ device: "wasm", threads: 1 });
    const { program } = await stack(device, 10);
    const run = { lengths: [64], vectors: { into: "x", data: floats(64 * 64, 2) } };
    const size = 64 * 64 * 4;
    // One that is thrown away lets op lists and private memory grow to their size.
    const bytesOf = async (again: boolean) => {
      const tape = await device.record(program, { ...run, recompute: again });
      await tape.backward({ buffer: "x", gradient: floats(64 * 64, 3) }, nothing);
      const { bytes } = tape;
      tape.free();
      return bytes;
    };
    const kept = await bytesOf(false);
    const before = device.memory;
    const again = await bytesOf(true);
    expect(device.memory).toBe(before);
    // Kept: x, n, u and its act's of each block. Again: those of one, and nine x's. Both: some tables.
    expect(kept).toBeGreaterThanOrEqual(4 * 10 * size);
    expect(again).toBeLessThan(1.1 * (9 + 6) * size);
    await device.close();
  });

  test("outputs can be read until backward runs blocks again; an aborted backward can be repeated", async () => {
    const device = await openDevice({ device: "wasm", threads: 1 });
    const { program, weight } = await stack(device, 6);
    const run = { lengths: [64], vectors: { into: "x", data: floats(64 * 64, 2) }, recompute };
    const gradient = floats(64 * 64, 3);
    const tape = await device.record(program, run);
    const out = tape.output("x");
    const gradients = async (signal?: AbortSignal) => {
      const dw = await zeros(device, weight);
      await tape.backward(
        { buffer: "x", gradient },
        { ...nothing, matrices: new Map([[weight, dw]]) },
        signal,
      );
      return numbersOf(dw);
    };
    const wanted = await gradients();
    expect(() => tape.output("x")).toThrow(/"x" was let go by backward/);
    // A signal that fires on its way, after some of the device's looks at it.
    const { signal } = new AbortController();
    let looks = 0;
    Object.defineProperty(signal, "aborted", { get: () => ++looks > 9 });
    await expect(gradients(signal)).rejects.toThrow(AbortError);
    expect(await gradients()).toEqual(wanted);
    tape.free();
    expect(() => tape.output("x")).toThrow(/this tape was freed/);
    const kept = await device.record(program, { ...run, recompute: false });
    expect(kept.output("x")).toEqual(out);
    await device.close();
  });
});
