import { describe, expect, test } from "vitest";
import { InputError } from "../../src/errors.js";
import type { Device, Matrix } from "../../src/kernels/device.js";
import { openDevice } from "../../src/kernels/open.js";
import type { AdamWUpdate, MatrixUpdate } from "../../src/kernels/optimize.js";
import { type AdamWHyper, adamwScalars } from "../../src/train/optimizers/adamw.js";
import { updatesOf } from "../../src/train/optimizers/updates.js";
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

describe.each(devices)("Device.update: %s", (_, open) => {
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
    await device.update([
      { kind: "adamw", value: matrix, gradient, m: await zeros(), v: await zeros(), scalars, factor: 1 },
    ]);
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
    await device.update([]);
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

  test("refuses what does not fit before anything has changed", async () => {
    const device = await open();
    const make = (rows: number, data = new Float32Array(rows * 2)) =>
      matrixOf(device, rows, 2, data, `w${rows}`);
    const numbers = Float32Array.of(1, 2, 3, 4, 5, 6);
    const good: AdamWUpdate = {
      kind: "adamw",
      value: await make(3, numbers),
      gradient: await make(3, numbers),
      m: await make(3),
      v: await make(3),
      scalars: adamwScalars(hyper),
      factor: 1,
    };
    const other = await openDevice({ device: device.kind === "wasm" ? "reference" : "wasm", threads: 1 });
    const stranger = await matrixOf(other, 3, 2, new Float32Array(6));
    const lion = updatesOf({ name: "lion" }, [{ name: "w", shape: [3, 2], kind: "matrix" }]).get("w")!;
    const value = await make(3);
    const bad: [object, RegExp][] = [
      [{ ...good, m: await make(4) }, /m of w3: expected a float32 matrix \[3, 2\], got f32 \[4, 2\]/],
      [{ ...good, gradient: await make(4) }, /gradient of w3: expected a float32 matrix/],
      [{ ...good, m: good.v }, /adamw: w3: "w3" already changes in the update of w3/],
      [{ ...good, gradient: good.v }, /its gradient "w3" changes in the update of w3/],
      [{ ...good, v: undefined }, /v of w3: expected a matrix, got none/],
      [{ ...good, kind: "adam" }, /kind: expected one of adamw, sgd, lion, muon, got "adam"/],
      [{ ...good, kind: "toString" }, /kind: expected one of/],
      [{ ...good, kind: "lion" }, /lion update: unknown option "v"/],
      [{ ...good, momentum: value }, /unknown option "momentum"/],
      [{ ...good, factor: NaN }, /factor of w3: .*NaN/],
      [{ ...good, factor: 1e39 }, /factor of w3/],
      [{ ...good, scalars: { ...good.scalars, eps: 0.1 } }, /scalars.eps of w3: expected a float32.*0.1/],
      [{ ...good, scalars: { ...good.scalars, m: 0.5 } }, /scalars.m of w3: expected a Rate/],
      [{ ...good, scalars: { ...good.scalars, lr: 1 } }, /scalars of w3: unknown option "lr"/],
      [{ ...good, scalars: {} }, /scalars.decay of w3/],
      [
        { ...lion.onDevice(value, good.gradient, [await make(3)], 0.5, 1, 1), scalars: { rate: -1 } },
        /scalars.rate of w3: expected a float32 number from 0, got -1/,
      ],
      [{ ...good, v: stranger }, /belongs to another device/],
    ];
    for (const [update, message] of bad) {
      const call = device.update([update as MatrixUpdate]);
      await expect(call).rejects.toThrow(InputError);
      await expect(call).rejects.toThrow(message);
    }
    const fresh = { ...good, m: await make(3), v: await make(3), value };
    await expect(device.update([good, good])).rejects.toThrow(/already changes in the update of w3/);
    await expect(device.update([good, { ...fresh, v: good.m }])).rejects.toThrow(/"w3" already changes/);
    await expect(device.update([{ ...fresh, gradient: good.v }, good])).rejects.toThrow(/its gradient "w3"/);
    await expect(device.update([good, { ...fresh, factor: NaN }])).rejects.toThrow(/factor/);
    await expect(device.update([good, { ...fresh, v: stranger }])).rejects.toThrow(/another device/);
    expect(await numbersOf(good.value)).toEqual(numbers);
    await other.close();
    await device.close();
  });

  test.each(["adamw", "sgd", "lion", "muon"] as const)("%s names what overflows", async (name) => {
    const device = await open();
    const make = (label: string, value: number) =>
      matrixOf(device, 20, 2, new Float32Array(40).fill(value), label);
    const own = updatesOf({ name, weightDecay: 0.1, ...(name === "sgd" && { momentum: 0.9 }) }, [
      { name: "w", shape: [20, 2], kind: "matrix" },
    ]).get("w")!;
    const step = async (label: string, value: number, gradient: number, state: number) =>
      own.onDevice(
        await make(label, value),
        await make("gradient", gradient),
        await Promise.all(own.states.map((part) => make(part, state))),
        1e5,
        1,
        1,
      );
    const good = await step("good", 1, 1, 1);
    // A state leaves the range, or a value alone.
    const overflows = [
      await step("state", 1, 3e38, name === "sgd" ? 3e38 : -3e38),
      await step("value", -3e38, 1, 1),
    ];
    for (const [i, bad] of overflows.entries())
      await expect(device.update([good, bad])).rejects.toThrow(
        `${name}: ${["state", "value"][i]} left the range of float32`,
      );
    await device.close();
  });
});
