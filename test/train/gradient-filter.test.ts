import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { InputError } from "../../src/errors.js";
import { LinearHead } from "../../src/head/linear.js";
import { type CrossEntropyOptions, crossEntropy, type Reduction } from "../../src/train/cross-entropy.js";
import type { Targets } from "../../src/train/targets.js";
import { devices } from "../devices.js";
import { distance, floats } from "../kernels/random.js";

interface Fixture {
  readonly N: number;
  readonly D: number;
  readonly V: number;
  readonly ids: number[];
  readonly cases: readonly {
    readonly targets: "ids" | "probabilities" | "teacher";
    readonly epsilon: number;
    readonly zLoss: number;
    readonly softcap: number | null;
    readonly reduction: Reduction;
    readonly loss: number;
    readonly filtered: number;
    readonly hidden: number[];
    readonly weight: number[];
    readonly bias: number[];
  }[];
}
const fixture = JSON.parse(
  readFileSync(new URL("./fixtures/gradient-filter.json", import.meta.url), "utf8"),
) as Fixture;
const { N, D, V, ids } = fixture;

describe.each(devices)("gradientFilter: %s", async (_, open) => {
  const device = await open();
  afterAll(() => device.close());
  const hidden = floats(N * D, 1, 3);
  const head = (softcap?: number) =>
    LinearHead.fromArrays({
      weight: floats(V * D, 2, 3),
      bias: floats(V, 3),
      vocabSize: V,
      hiddenSize: D,
      device,
      softcap,
    });
  const plain = await head();
  const teacher = await LinearHead.fromArrays({
    weight: floats(V * 2, 5, 4),
    vocabSize: V,
    hiddenSize: 2,
    device,
  });
  const targetsOf: Record<string, Targets> = {
    ids,
    // An id of probability 0 keeps nothing: it is no target.
    probabilities: {
      probabilities: Array.from({ length: N }, (_, n) => ({
        ids: n === 0 ? [0, 20, 50] : [8 * n, 8 * n + 20],
        probs: n === 0 ? [0.75, 0.25, 0] : [0.75, 0.25],
      })),
    },
    teacher: { teacher, hidden: floats(N * 2, 4, 4) },
  };

  it("PyTorch's gradients without the blocks of small probabilities, for all kinds of targets", async () => {
    for (const want of fixture.cases) {
      const got = await crossEntropy(await head(want.softcap ?? undefined), hidden, targetsOf[want.targets], {
        zLoss: want.zLoss,
        reduction: want.reduction,
        gradients: true,
        gradientFilter: want.epsilon === 2 ** -12 || want.epsilon,
      });
      const name = `${want.targets}, ${want.epsilon}`;
      expect(got.filtered, name).toBeCloseTo(want.filtered, 12);
      expect(got.loss, name).toBeCloseTo(want.loss, 4);
      for (const part of ["hidden", "weight", "bias"] as const)
        expect(distance(got[part] ?? [], want[part]), `${name}: ${part}`).toBeLessThan(1e-5);
    }
    // Not vacuous: what is left out is something.
    const exact = await crossEntropy(plain, hidden, ids, { gradients: true });
    expect(exact.filtered).toBeUndefined();
    expect(distance(exact.hidden ?? [], fixture.cases[1].hidden)).toBeGreaterThan(1e-3);
    expect(distance(exact.weight ?? [], fixture.cases[1].weight)).toBeGreaterThan(1e-3);
  });

  it("ε = 0 gives the exact bits; rows that are all ignored, or none, leave out nothing", async () => {
    const exact = await crossEntropy(plain, hidden, ids, { gradients: true });
    const zero = await crossEntropy(plain, hidden, ids, { gradients: true, gradientFilter: 0 });
    expect(zero).toEqual({ ...exact, filtered: 0 });
    expect(await crossEntropy(plain, hidden, ids, { gradients: true, gradientFilter: false })).toEqual(exact);
    const options = { gradients: { hidden: true }, gradientFilter: true, reduction: "sum" } as const;
    const ignored = await crossEntropy(plain, hidden, new Array(N).fill(-100), options);
    expect(ignored).toEqual({ loss: 0, count: 0, hidden: new Float32Array(N * D), filtered: 0 });
    const none = await crossEntropy(plain, new Float32Array(0), [], options);
    expect(none).toEqual({ loss: 0, count: 0, hidden: new Float32Array(0), filtered: 0 });
  });

  it("refuses what does not fit", async () => {
    const bad: [RegExp, object][] = [
      [/gradientFilter: expected true, false or a number in \[0, 1\), got 1/, { gradientFilter: 1 }],
      [/got -0.1/, { gradientFilter: -0.1 }],
      [/got NaN/, { gradientFilter: NaN }],
      [/got auto/, { gradientFilter: "auto" }],
      [/got null/, { gradientFilter: null }],
      [/neither was asked for/, { gradients: { bias: true } }],
      [/neither was asked for/, { gradients: undefined }],
      [/does not go with labelSmoothing/, { labelSmoothing: 0.1 }],
    ];
    for (const [message, change] of bad) {
      const options = { gradients: true, gradientFilter: true, ...change } as CrossEntropyOptions;
      const call = crossEntropy(plain, hidden, ids, options);
      await expect(call, String(message)).rejects.toThrow(message);
      await expect(call).rejects.toBeInstanceOf(InputError);
    }
  });
});
