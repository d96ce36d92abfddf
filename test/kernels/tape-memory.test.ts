import { describe, expect, test } from "vitest";
import type { Device, Matrix } from "../../src/kernels/device.js";
import type { Program } from "../../src/kernels/op.js";
import { arraySource } from "../../src/model/formats/sources.js";
import { devices } from "../devices.js";
import { floats } from "./random.js";

/** Attention alone, one head of four columns. */
const attention: Program = {
  buffers: { qkv: 12, out: 4 },
  ops: [{ op: "attention", qkv: "qkv", out: "out", layer: 0, heads: 1, kvHeads: 1, headDim: 4, scale: 0.5 }],
  cache: [{ kvHeads: 1, headDim: 4 }],
  maxPositions: 1 << 20,
};

async function gradientOf(device: Device, rows: number): Promise<Float32Array> {
  const call = { lengths: [rows], vectors: { into: "qkv", data: floats(rows * 12, 5) } };
  const tape = await device.record(attention, call);
  const from = { buffer: "out", gradient: floats(rows * 4, 6) };
  const into = { matrices: new Map(), vectors: new Map() };
  const gradient = await tape.backward(from, into);
  tape.free();
  return gradient!;
}

const wasm = devices.filter(([name]) => name !== "reference");

test("attention's way back over a long sequence keeps to its memory", async () => {
  const answers: Float32Array[] = [];
  for (const [, open] of wasm) {
    const device = await open();
    const weights = floats(128 * 128, 7);
    const bystander = await device.matrix(arraySource("bystander", 128, 128, weights));
    answers.push(await gradientOf(device, 7200));
    expect(await bystander.gather(Array.from({ length: 128 }, (_, i) => i))).toEqual(weights);
    await device.close();
  }
  for (const answer of answers) expect(answer).toEqual(answers[0]);
}, 60_000);

/** y = x·Wᵀ. */
async function linear(device: Device): Promise<{ program: Program; weight: Matrix; gradient: Matrix }> {
  const weight = await device.matrix(arraySource("w", 32, 32, floats(1024, 1)));
  const gradient = await device.matrix(arraySource("dw", 32, 32, new Float32Array(1024)));
  const program: Program = {
    buffers: { x: 32, y: 32 },
    ops: [{ op: "matmul", in: "x", out: "y", outColumn: 0, weight, accumulate: false }],
    cache: [],
    maxPositions: 1 << 20,
  };
  return { program, weight, gradient };
}

const rows = 64;
const call = () => ({ lengths: [rows], vectors: { into: "x", data: floats(rows * 32, 2) } });
const all = Array.from({ length: 32 }, (_, i) => i);

describe.each(devices)("%s", (_, open) => {
  test("a tape that is freed while it walks back lets its memory go afterwards", async () => {
    const device = await open();
    const { program, weight, gradient } = await linear(device);
    const into = { matrices: new Map([[weight, gradient]]), vectors: new Map() };
    const from = { buffer: "y", gradient: floats(rows * 32, 3) };
    const wanted = await device.record(program, call());
    await wanted.backward(from, into);
    const right = await gradient.gather(all);
    wanted.free();
    await device.zero([gradient]);

    const tape = await device.record(program, call());
    const before = device.memory;
    const walking = tape.backward(from, into);
    await Promise.resolve();
    await Promise.resolve();
    tape.free();
    const array = device.array(rows * 64);
    const done = await walking.then(
      () => true,
      () => false, // freed while it still waited: nothing was added
    );
    expect(array.data.every((x) => x === 0)).toBe(true);
    expect(await gradient.gather(all)).toEqual(done ? right : new Float32Array(1024));
    array.free();
    expect(device.memory).toBeLessThanOrEqual(before);
    await device.close();
  });

  test("backward waits for its turn, and sees an abort", async () => {
    const device = await open();
    const { program, weight, gradient } = await linear(device);
    const into = { matrices: new Map([[weight, gradient]]), vectors: new Map() };
    const from = { buffer: "y", gradient: floats(rows * 32, 3) };
    const tape = await device.record(program, call());
    await tape.backward(from, into);
    const right = await gradient.gather(all);
    // The zeros come first, as they were asked for first.
    const zero = device.zero([gradient]);
    const walk = tape.backward(from, into);
    await Promise.all([zero, walk]);
    expect(await gradient.gather(all)).toEqual(right);
    await expect(tape.backward(from, into, AbortSignal.abort())).rejects.toThrow(/abort/);
    const late = tape.backward(from, into);
    tape.free();
    await expect(late).rejects.toThrow("this tape was freed");
    await device.close();
  });

  test("an array of the device that is freed stays until the way back has read it", async () => {
    const device = await open();
    const { program, weight, gradient } = await linear(device);
    const into = { matrices: new Map([[weight, gradient]]), vectors: new Map() };
    const numbers = floats(rows * 32, 3);
    const tape = await device.record(program, call());
    await tape.backward({ buffer: "y", gradient: numbers }, into);
    const right = await gradient.gather(all);
    await device.zero([gradient]);
    const array = device.array(rows * 32);
    array.data.set(numbers);
    const view = array.data;
    const walk = tape.backward({ buffer: "y", gradient: view }, into);
    array.free();
    const other = device.array(rows * 32);
    other.data.fill(0);
    await walk;
    expect(await gradient.gather(all)).toEqual(right);
    await expect(tape.backward({ buffer: "y", gradient: view }, into)).rejects.toThrow(/freed/);
    await device.close();
  });

  test("a record of no rows is refused", async () => {
    const device = await open();
    const { program } = await linear(device);
    for (const lengths of [[], [0]]) {
      const none = { lengths, vectors: { into: "x", data: new Float32Array(0) } };
      await expect(device.record(program, none)).rejects.toThrow(/at least one row/);
    }
    await device.close();
  });
});
