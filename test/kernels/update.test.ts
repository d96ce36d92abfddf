import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device, Matrix } from "../../src/kernels/device.js";
import type { MatrixUpdate } from "../../src/kernels/optimize.js";
import type { Parameter } from "../../src/train/optimizers/parameter.js";
import { type OptimizerOptions, updatesOf } from "../../src/train/optimizers/updates.js";
import { devices } from "../devices.js";
import { floatSource, floats } from "./random.js";

const matrixOf = (device: Device, rows: number, cols: number, data: Float32Array) =>
  device.matrix(floatSource("w", rows, cols, data));
const numbersOf = (matrix: Matrix) => matrix.gather(Array.from({ length: matrix.rows }, (_, i) => i));

/** Three steps of one matrix, in plain TypeScript and on a device: value and states must have the same bits. */
async function compare(
  device: Device,
  [rows, cols]: [number, number],
  options: OptimizerOptions,
  factor: number,
): Promise<void> {
  const size = rows * cols;
  const parameter: Parameter = { name: "w", shape: [rows, cols], kind: "matrix" };
  const update = updatesOf(options, [parameter]).get("w")!;
  const p = floats(size, 1);
  const states = update.states.map(() => new Float32Array(size));
  const value = await matrixOf(device, rows, cols, p);
  const matrices = await Promise.all(states.map((state) => matrixOf(device, rows, cols, state)));
  for (let step = 1; step <= 3; step++) {
    // Zeros among them: their signs are bits too.
    const g = floats(size, 10 + step, step === 2 ? 1e-12 : 3).map((x, i) => (i % 7 === 3 ? x * 0 : x));
    const gradient = await matrixOf(device, rows, cols, g);
    update.apply(
      p,
      g.map((x) => x * factor),
      states,
      0.01,
      step,
    );
    await device.update([update.onDevice(value, gradient, matrices, 0.01, step, factor)]);
    expect(await numbersOf(gradient)).toEqual(g);
    gradient.free();
  }
  expect(await numbersOf(value)).toEqual(p);
  for (const [i, state] of states.entries()) {
    expect(await numbersOf(matrices[i])).toEqual(state);
    if (factor !== 0) expect(state.some((x) => x !== 0)).toBe(true);
  }
  // What is missing of a panel of 16 rows stays zeros: a norm would count it.
  const exact = [p, ...states].map((numbers) => numbers.reduce((sum, x) => sum + x * x, 0));
  for (const [i, sum] of (await device.squares([value, ...matrices])).entries())
    expect(Math.abs(sum - exact[i])).toBeLessThanOrEqual(1e-12 * exact[i]);
  for (const matrix of [value, ...matrices]) matrix.free();
}

const rate = fc.constantFrom(0, 0.3, 0.5, 0.95, 0.999);
const weightDecay = fc.constantFrom(0, 0.3);
const nesterov = fc.boolean();
const kinds: Record<OptimizerOptions["name"], fc.Arbitrary<OptimizerOptions>> = {
  adamw: fc.record({ name: fc.constant("adamw" as const), beta1: rate, beta2: rate, weightDecay }),
  sgd: fc.oneof(
    fc.record({ name: fc.constant("sgd" as const), weightDecay }),
    fc.record({ name: fc.constant("sgd" as const), momentum: fc.constant(0.9), nesterov, weightDecay }),
    fc.record({
      name: fc.constant("sgd" as const),
      momentum: fc.constant(0.5),
      dampening: fc.constantFrom(0.1, 1),
    }),
  ),
  lion: fc.record({ name: fc.constant("lion" as const), beta1: rate, beta2: rate, weightDecay }),
  muon: fc.record({
    name: fc.constant("muon" as const),
    momentum: rate,
    nesterov,
    weightDecay,
    adjustLearningRate: fc.constantFrom("original" as const, "match_rms_adamw" as const),
  }),
};

describe.each(devices)("Device.update: %s", (_, open) => {
  test.each(Object.entries(kinds))("%s has the bits of its formula on any shape", async (name, options) => {
    const device = await open();
    const side = fc.integer({ min: 1, max: 40 });
    const factor = fc.constantFrom(1, 0, Math.fround(0.37));
    let momentless = 0;
    await fc.assert(
      fc.asyncProperty(fc.tuple(side, side), options, factor, async (shape, own, by) => {
        if (own.name === "sgd" && own.momentum === undefined) momentless++;
        await compare(device, shape, own, by);
      }),
      {
        numRuns: 40,
        seed: 5,
        examples: [
          [[1, 1], { name }, 1],
          [[1, 33], { name }, 1],
          [[33, 1], { name }, 1],
          [[16, 16], { name }, 1],
        ] as never,
      },
    );
    if (name === "sgd") expect(momentless).toBeGreaterThan(3);
    const held = device.memory;
    await compare(device, [20, 9], { name } as OptimizerOptions, 1);
    expect(device.memory).toBe(held);
    await device.close();
  });

  test("steps matrices of every kind in one call", async () => {
    const device = await open();
    // More than 16 panels, than 128 rows and than 256 numbers of a sum: every loop of the kernels takes turns.
    const shapes: [number, number][] =
      device.kind === "wasm"
        ? [
            [290, 270],
            [70, 300],
            [65, 65],
          ]
        : [
            [40, 30],
            [7, 30],
            [5, 5],
          ];
    const options: OptimizerOptions[] = [
      { name: "muon" },
      { name: "muon", nesterov: false },
      { name: "muon" },
      { name: "sgd", momentum: 0.9 },
      { name: "sgd" },
      { name: "lion" },
      { name: "adamw" },
    ];
    const updates: MatrixUpdate[] = [];
    const wanted: Float32Array[] = [];
    for (const [i, own] of options.entries()) {
      const [rows, cols] = shapes[i % 3];
      const update = updatesOf(own, [{ name: "w", shape: [rows, cols], kind: "matrix" }]).get("w")!;
      const [p, g] = [floats(rows * cols, i + 1), floats(rows * cols, i + 20)];
      const states = update.states.map((_, k) => floats(rows * cols, i + 40 + k).map(Math.abs));
      const [value, gradient] = [
        await matrixOf(device, rows, cols, p),
        await matrixOf(device, rows, cols, g),
      ];
      const matrices = await Promise.all(states.map((state) => matrixOf(device, rows, cols, state)));
      updates.push(update.onDevice(value, gradient, matrices, 0.02, 2, 1));
      update.apply(p, g, states, 0.02, 2);
      wanted.push(p);
    }
    await device.update(updates);
    for (const [i, { value }] of updates.entries()) expect(await numbersOf(value)).toEqual(wanted[i]);
    await device.close();
  });
});
