import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { InputError } from "../../src/errors.js";
import type { Device } from "../../src/kernels/device.js";
import type { LossQuery } from "../../src/kernels/loss.js";
import { WasmDevice } from "../../src/kernels/wasm/device.js";
import { devices } from "../devices.js";
import { distance, floatSource, floats } from "./random.js";

interface Shape {
  readonly N: number;
  readonly V: number;
  readonly D: number;
  readonly seed: number;
  /** How far probabilities are from equal. */
  readonly peak: number;
}

const BOTH = { hidden: true, weight: true };

/** Loss and gradients of random weights and hidden states, one target a row; nothing is left in the device. */
async function gradientsOf(device: Device, { N, V, D, seed, peak }: Shape, filter?: number, wanted = BOTH) {
  const weight = floats(V * D, seed, peak);
  const hidden = floats(N * D, seed + 1);
  const ids = Int32Array.from(floats(N, seed + 2), (x) => Math.floor(((x + 1) / 2) * V));
  const matrix = await device.matrix(floatSource("head", V, D, weight));
  const gradient = await device.matrix(floatSource("gradient", V, D, new Float32Array(V * D)));
  const answer = await device.loss({ matrix, vocabSize: V, scale: 1 }, hidden, {
    ids,
    perRow: 1,
    coefficients: new Float32Array(N).fill(1),
    gradients: { hidden: wanted.hidden, weight: wanted.weight ? gradient : undefined, filter },
  });
  const dWeight = await gradient.gather(Array.from({ length: V }, (_, id) => id));
  matrix.free();
  gradient.free();
  return { ...answer, dWeight, plain: { weight, hidden, ids } };
}

/** What the filter is by its definition, in float64, from logits of its own. */
function byDefinition({ N, V, D }: Shape, filter: number, { weight, hidden, ids }: Plain) {
  const dHidden = new Float64Array(N * D);
  const dWeight = new Float64Array(V * D);
  let left = 0;
  for (let n = 0; n < N; n++) {
    const y = Array.from({ length: V }, (_, c) => {
      let z = 0;
      for (let k = 0; k < D; k++) z += hidden[n * D + k] * weight[c * D + k];
      return z;
    });
    const most = y.reduce((a, b) => Math.max(a, b));
    const sum = y.reduce((total, x) => total + Math.exp(x - most), 0);
    for (let first = 0; first < V; first += 16) {
      const block = y.slice(first, first + 16).map((x) => Math.exp(x - most) / sum);
      if (block.every((p) => p < filter) && !(ids[n] >= first && ids[n] < first + 16)) {
        left++;
        continue;
      }
      block.forEach((p, i) => {
        const g = p - (first + i === ids[n] ? 1 : 0);
        for (let k = 0; k < D; k++) {
          dHidden[n * D + k] += g * weight[(first + i) * D + k];
          dWeight[(first + i) * D + k] += g * hidden[n * D + k];
        }
      });
    }
  }
  return { dHidden, dWeight, filtered: left / (N * Math.ceil(V / 16)) };
}
type Plain = Awaited<ReturnType<typeof gradientsOf>>["plain"];

describe.each(devices)("gradient filter: %s", async (_, open) => {
  const device = await open();
  afterAll(() => device.close());

  it("is its definition, for any shape and ε", async () => {
    const shapes = fc.record({
      N: fc.integer({ min: 1, max: 9 }),
      V: fc.integer({ min: 1, max: 100 }),
      D: fc.integer({ min: 1, max: 37 }),
      seed: fc.integer(),
      peak: fc.constantFrom(0.01, 1, 4),
    });
    const seen: number[] = [];
    await fc.assert(
      fc.asyncProperty(shapes, fc.constantFrom(0.3, 0.05, 2 ** -12), async (shape, filter) => {
        const got = await gradientsOf(device, shape, filter);
        const want = byDefinition(shape, filter, got.plain);
        expect(got.filtered).toBeCloseTo(want.filtered, 12);
        expect(distance(got.dHidden ?? [], want.dHidden)).toBeLessThan(2e-5);
        expect(distance(got.dWeight, want.dWeight)).toBeLessThan(2e-5);
        seen.push(want.filtered);
      }),
      { numRuns: 80, seed: 7 },
    );
    expect(seen.filter((share) => share > 0).length).toBeGreaterThan(15);
  });

  it("over several chunks of rows and slices of columns, with V not whole panels", async () => {
    const shape = { N: 300, V: 1003, D: 270, seed: 3, peak: 1 };
    const filter = 2 ** -9;
    const got = await gradientsOf(device, shape, filter);
    const want = byDefinition(shape, filter, got.plain);
    expect(want.filtered).toBeGreaterThan(0.3);
    expect(want.filtered).toBeLessThan(0.9);
    // In float32 a probability may fall on the other side of ε: few do, and then matter little.
    expect(Math.abs((got.filtered ?? NaN) - want.filtered)).toBeLessThan(1e-4);
    expect(distance(got.dHidden ?? [], want.dHidden)).toBeLessThan(1e-4);
    expect(distance(got.dWeight, want.dWeight)).toBeLessThan(1e-4);
  });

  it("keeps every block for a tiny ε, and only targets' blocks for equal probabilities", async () => {
    const shape = { N: 7, V: 90, D: 19, seed: 5, peak: 1 };
    const exact = await gradientsOf(device, shape);
    expect(exact.filtered).toBeUndefined();
    const kept = await gradientsOf(device, shape, 1e-30);
    expect(kept.filtered).toBe(0);
    expect(distance(kept.dHidden ?? [], exact.dHidden ?? [])).toBeLessThan(1e-6);
    // A weight's gradient has the same sums in the same order.
    expect(distance(kept.dWeight, exact.dWeight)).toBe(0);
    const flat = await gradientsOf(device, { ...shape, peak: 1e-3 }, 0.5);
    expect(flat.filtered).toBeCloseTo(5 / 6, 12);
    expect(flat.logSumExp).toEqual((await gradientsOf(device, { ...shape, peak: 1e-3 })).logSumExp);
  });

  it("gives each gradient alone as it gives it with the other", async () => {
    const shape = { N: 6, V: 80, D: 21, seed: 9, peak: 3 };
    const both = await gradientsOf(device, shape, 0.05);
    expect(both.filtered).toBeGreaterThan(0.2);
    const hidden = await gradientsOf(device, shape, 0.05, { hidden: true, weight: false });
    expect(hidden).toEqual({ ...both, dWeight: new Float32Array(80 * 21) });
    const weight = await gradientsOf(device, shape, 0.05, { hidden: false, weight: true });
    expect({ ...weight, dHidden: both.dHidden }).toEqual(both);
  });

  it("refuses what does not fit", async () => {
    const matrix = await device.matrix(floatSource("head", 3, 2, floats(6, 1)));
    const good: LossQuery = {
      ids: Int32Array.of(1),
      perRow: 1,
      coefficients: Float32Array.of(1),
      gradients: { hidden: true, filter: 0.1 },
    };
    const bad: [RegExp, object][] = [
      [/gradients.filter: expected a number in \[0, 1\), got 1/, { gradients: { hidden: true, filter: 1 } }],
      [/got true/, { gradients: { hidden: true, filter: true } }],
      [/neither was asked for/, { gradients: { hidden: false, filter: 0.1 } }],
      [/does not go with uniform/, { uniform: Float32Array.of(0.1) }],
    ];
    for (const [message, change] of bad) {
      const call = device.loss({ matrix, vocabSize: 3, scale: 1 }, floats(2, 2), {
        ...good,
        ...change,
      } as LossQuery);
      await expect(call, String(message)).rejects.toThrow(message);
      await expect(call).rejects.toBeInstanceOf(InputError);
    }
    matrix.free();
  });
});

it("the gradient filter gives the same bits for 1 and 3 threads, and without shared memory", async () => {
  const shape = { N: 260, V: 333, D: 45, seed: 11, peak: 2 };
  const [one, three, unshared] = await Promise.all(
    [1, 3, 0].map(async (threads) => {
      const device = await WasmDevice.start(threads, "test");
      const { plain, ...got } = await gradientsOf(device, shape, 0.01);
      await device.close();
      return got;
    }),
  );
  expect(one.filtered).toBeGreaterThan(0.1);
  expect(three).toEqual(one);
  expect(unshared).toEqual(one);
});
