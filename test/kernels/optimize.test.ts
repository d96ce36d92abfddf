import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device, Matrix } from "../../src/kernels/device.js";
import { openDevice } from "../../src/kernels/open.js";
import { type AdamWHyper, adamwScalars, adamwStep } from "../../src/train/optimizers/adamw.js";
import { devices } from "../devices.js";
import { floats } from "./random.js";

const matrixOf = (device: Device, rows: number, cols: number, data: Float32Array, name = "w") =>
  device.matrix({
    name,
    rows,
    cols,
    type: "f32",
    read: async (first, count) => new Uint8Array(data.slice(first * cols, (first + count) * cols).buffer),
  });
const numbersOf = (matrix: Matrix) => matrix.gather(Array.from({ length: matrix.rows }, (_, i) => i));
const hyper: AdamWHyper = {
  learningRate: 0.01,
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0.1,
  step: 1,
};

describe.each(devices)("Device.adamw: %s", (_, open) => {
  test("has the bits of adamwStep on any shape, over several steps", async () => {
    const device = await open();
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 23 }),
        fc.constantFrom(0, 0.3, 0.5, 0.9),
        fc.constantFrom(0.2, 0.95, 0.999),
        fc.constantFrom(1, Math.fround(0.37)),
        async (rows, cols, beta1, beta2, factor) => {
          const size = rows * cols;
          const [p, m, v] = [floats(size, 1), new Float32Array(size), new Float32Array(size)];
          const value = await matrixOf(device, rows, cols, p);
          const state = [await matrixOf(device, rows, cols, m), await matrixOf(device, rows, cols, v)];
          for (let step = 1; step <= 3; step++) {
            const g = floats(size, 10 + step, step === 2 ? 1e-12 : 3);
            const gradient = await matrixOf(device, rows, cols, g);
            const now = { ...hyper, beta1, beta2, step };
            adamwStep(
              p,
              g.map((x) => x * factor),
              m,
              v,
              now,
            );
            const scalars = adamwScalars(now);
            await device.adamw([{ value, gradient, m: state[0], v: state[1], scalars, factor }]);
            gradient.free();
          }
          expect(await numbersOf(value)).toEqual(p);
          expect(await numbersOf(state[0])).toEqual(m);
          expect(await numbersOf(state[1])).toEqual(v);
          for (const matrix of [value, ...state]) matrix.free();
        },
      ),
      { numRuns: 30, seed: 5 },
    );
    await device.close();
  });

  test("what was made of the old numbers is let go, and missing rows stay zero", async () => {
    const device = await open();
    const [V, D] = [2100, 8];
    const weights = floats(V * D, 3);
    const matrix = await matrixOf(device, V, D, weights);
    const head = { matrix, vocabSize: V, scale: 1 };
    const query = { topK: 5, rank: false, logSumExp: false, entropy: false, logits: false };
    const hidden = floats(D, 4);
    await device.ask(head, hidden, query); // makes the screen
    const zeros = () => matrixOf(device, V, D, new Float32Array(V * D));
    const gradient = await matrixOf(device, V, D, floats(V * D, 8));
    const scalars = adamwScalars({ ...hyper, learningRate: 2 });
    await device.adamw([{ value: matrix, gradient, m: await zeros(), v: await zeros(), scalars, factor: 1 }]);
    const top = await device.ask(head, hidden, query);
    const full = await device.ask(head, hidden, { ...query, logSumExp: true });
    expect(top.topIds).toEqual(full.topIds);
    expect(top.topLogits).toEqual(full.topLogits);
    await device.close();
  });

  test("squares and zero", async () => {
    const device = await open();
    const data = floats(19 * 7, 2, 1e3);
    const a = await matrixOf(device, 19, 7, data);
    const b = await matrixOf(device, 1, 1, Float32Array.of(-3));
    const [one, two] = await device.squares([a, b]);
    const exact = data.reduce((sum, x) => sum + x * x, 0);
    expect(Math.abs(one - exact)).toBeLessThan(1e-12 * exact);
    expect(two).toBe(9);
    await device.zero([a, b]);
    expect(await numbersOf(a)).toEqual(new Float32Array(19 * 7));
    expect(await device.squares([])).toEqual(new Float64Array(0));
    await device.zero([]);
    await device.adamw([]);
    if (device.kind === "wasm") {
      const half = await device.matrix({
        name: "half",
        rows: 16,
        cols: 4,
        type: "bf16",
        read: async (_, count) => new Uint8Array(count * 8),
      });
      await expect(device.zero([half])).rejects.toThrow(/zero: half: expected a float32 matrix, got bf16/);
      await expect(device.squares([half])).rejects.toThrow(/squares: half/);
    }
    await device.close();
  });

  test("a changed bias is seen", async () => {
    const device = await open();
    const bias = Float32Array.of(0, 0, 0);
    const matrix = await matrixOf(device, 3, 2, new Float32Array(6));
    const head = { matrix, vocabSize: 3, scale: 1, bias };
    const query = { topK: 1, rank: false, logSumExp: true, entropy: false, logits: false };
    expect((await device.ask(head, Float32Array.of(1, 1), query)).topIds?.[0]).toBe(0);
    bias[2] = 5;
    await device.changed([bias, new Float32Array(4)]);
    expect((await device.ask(head, Float32Array.of(1, 1), query)).topIds?.[0]).toBe(2);
    await device.close();
  });

  test("refuses what does not fit, and names what overflows", async () => {
    const device = await open();
    const make = (rows: number, data = new Float32Array(rows * 2)) =>
      matrixOf(device, rows, 2, data, `w${rows}`);
    const update = async (large = 0) => ({
      value: await make(3, Float32Array.of(1, 2, 3, 4, 5, 6)),
      gradient: await make(3, new Float32Array(6).fill(large)),
      m: await make(3),
      v: await make(3),
      scalars: adamwScalars(hyper),
      factor: 1,
    });
    const good = await update();
    await device.adamw([good]);
    await expect(device.adamw([{ ...good, m: await make(4) }])).rejects.toThrow(
      /m of w3: expected a float32 matrix \[3, 2\], got f32 \[4, 2\]/,
    );
    await expect(device.adamw([{ ...good, m: good.v }])).rejects.toThrow(/must be four matrices/);
    await expect(device.adamw([{ ...good, factor: NaN }])).rejects.toThrow(/factor of w3.*NaN/);
    await expect(device.adamw([good, await update(3e38)])).rejects.toThrow(/w3 left the range of float32/);
    const other = await openDevice({ device: device.kind === "wasm" ? "reference" : "wasm", threads: 1 });
    const stranger = await matrixOf(other, 3, 2, new Float32Array(6));
    await expect(device.adamw([{ ...good, v: stranger }])).rejects.toThrow(/belongs to another device/);
    await other.close();
    await device.close();
  });
});
