import { describe, expect, test } from "vitest";
import { arraySource } from "../../src/model/formats/sources.js";
import { devices } from "../devices.js";

// Finite weights and a finite row whose product is below float32's range: -Infinity that no bias has made.
const V = 20;
const D = 16;
const weight = Float32Array.from({ length: V * D }, (_, i) => (i < D ? -3e38 : 0.1));
const hidden = new Float32Array(D).fill(4);

describe.each(devices)("%s", (_, open) => {
  test.each([
    ["a target", { ids: Int32Array.of(0), coefficients: Float32Array.of(1) }],
    ["smoothing", { ids: Int32Array.of(1), coefficients: Float32Array.of(1), uniform: Float32Array.of(0.1) }],
  ])("an overflowing logit with a share in the loss, by %s, is refused", async (_, part) => {
    const device = await open();
    const head = { matrix: await device.matrix(arraySource("w", V, D, weight)), vocabSize: V, scale: 1 };
    const query = { perRow: 1, gradients: { hidden: true }, ...part };
    await expect(device.loss(head, hidden, query)).rejects.toThrow(/its loss is infinite/);
    await device.close();
  });

  test("one without a share does no harm", async () => {
    const device = await open();
    const head = { matrix: await device.matrix(arraySource("w", V, D, weight)), vocabSize: V, scale: 1 };
    const query = {
      ids: Int32Array.of(1),
      coefficients: Float32Array.of(1),
      perRow: 1,
      gradients: { hidden: true },
    };
    const { logSumExp, dHidden } = await device.loss(head, hidden, query);
    expect(logSumExp[0]).toBeCloseTo(6.4 + Math.log(V - 1), 4);
    expect(dHidden!.every(Number.isFinite)).toBe(true);
    await device.close();
  });
});
