import { readdirSync, readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { AbortError, InputError } from "../../src/errors.js";
import { LinearHead } from "../../src/head/linear.js";
import { openDevice } from "../../src/kernels/open.js";
import { type CrossEntropyOptions, crossEntropy, type Reduction } from "../../src/train/cross-entropy.js";
import type { Targets } from "../../src/train/targets.js";
import { devices } from "../devices.js";
import { distance, floatSource, floats } from "../kernels/random.js";
import { shared, sharedPath } from "../shared.js";
import { readTensors } from "../tensors.js";

interface Case {
  readonly V: number;
  readonly D: number;
  readonly target: number[];
  readonly options: {
    readonly labelSmoothing: number;
    readonly ignoreIndex: number | null;
    readonly zLoss: number;
    readonly softcap: number | null;
    readonly scale: number;
    readonly reduction: Reduction;
  };
  readonly loss?: number;
}

interface Fixture {
  readonly N: number;
  readonly D: number;
  readonly V: number;
  readonly ids: number[];
  readonly cases: readonly {
    readonly targets: "ids" | "probabilities" | "teacher";
    readonly labelSmoothing: number;
    readonly weighted: boolean;
    readonly reduction: Reduction;
    readonly loss: number | number[];
    readonly hidden: number[];
    readonly weight: number[];
    readonly bias: number[];
  }[];
}

/** Fails where a number is further than 1e-5 + 1e-5 · |expected| from it. */
function expectClose(name: string, got: ArrayLike<number> | undefined, want: ArrayLike<number>): void {
  if (got?.length !== want.length)
    throw new Error(`${name}: got ${got?.length} numbers, expected ${want.length}`);
  for (let i = 0; i < want.length; i++)
    if (!(Math.abs(got[i] - want[i]) <= 1e-5 + 1e-5 * Math.abs(want[i])))
      throw new Error(`${name} at ${i}: got ${got[i]}, expected ${want[i]}`);
}

const list = (loss: number | Float64Array | number[]) => (typeof loss === "number" ? [loss] : loss);

describe.each(devices)("cross-entropy: %s", async (_, open) => {
  const device = await open();
  afterAll(() => device.close());

  const head = (V: number, D: number, weight: Float32Array, rest = {}) =>
    LinearHead.fromArrays({ weight, vocabSize: V, hiddenSize: D, device, ...rest });

  const cases = shared ? readdirSync(sharedPath("cases/heads")).filter((name) => name.startsWith("ce_")) : [];
  it.skipIf(!shared)("PyTorch's losses and gradients on the cases ce_*", async () => {
    expect(cases.length).toBeGreaterThan(10);
    for (const name of cases) {
      const folder = sharedPath(`cases/heads/${name}`);
      const { V, D, target, options, loss } = JSON.parse(readFileSync(`${folder}/case.json`, "utf8")) as Case;
      const tensors = readTensors(`${folder}/tensors.safetensors`);
      const take = (tensor: string) => {
        const found = tensors.get(tensor);
        if (!found) throw new Error(`${name} has no ${tensor}`);
        return found;
      };
      const bias = tensors.get("bias");
      const h = await head(V, D, take("weight"), {
        bias,
        scale: options.scale,
        softcap: options.softcap ?? undefined,
      });
      const got = await crossEntropy(h, take("hidden"), target, {
        labelSmoothing: options.labelSmoothing,
        ignoreIndex: options.ignoreIndex ?? undefined,
        zLoss: options.zLoss,
        classWeights: tensors.get("class_weight"),
        reduction: options.reduction,
        gradients: true,
        gradOutput: tensors.get("grad_output"),
      });
      expectClose(`${name}: loss`, list(got.loss), loss === undefined ? take("loss") : [loss]);
      expectClose(`${name}: hidden`, got.hidden, take("grad_hidden"));
      expectClose(`${name}: weight`, got.weight, take("grad_weight"));
      if (bias) expectClose(`${name}: bias`, got.bias, take("grad_bias"));
      else expect(got.bias).toBeUndefined();
      // The gradient of a masked token is exactly 0.
      bias?.forEach((b, c) => {
        if (b === -Infinity) expect([got.bias?.[c], got.weight?.[c * D]]).toEqual([0, 0]);
      });
      await h.close();
    }
  });

  const fixture = JSON.parse(
    readFileSync(new URL("./fixtures/cross-entropy.json", import.meta.url), "utf8"),
  ) as Fixture;
  const { N, D, V } = fixture;
  const hidden = floats(N * D, 1, 2);
  const small = await head(V, D, floats(V * D, 2, 2), { bias: floats(V, 3) });
  const teacher = await head(V, 2, floats(V * 2, 5, 2));
  // The same probabilities in both forms; in the second, the last row has an id twice.
  const soft = {
    ids: Int32Array.of(0, 2, 1, 3, 2, 4),
    probs: Float32Array.of(0.75, 0.25, 0.75, 0.25, 0.5, 0.25),
  };
  const rows = [
    { ids: [0, 2], probs: [0.75, 0.25] },
    { ids: [3, 1], probs: [0.25, 0.75] },
    { ids: [2, 4, 2], probs: [0.3, 0.25, 0.2] },
  ];
  const targetsOf: Record<string, Targets[]> = {
    ids: [fixture.ids, Int32Array.from(fixture.ids)],
    probabilities: [{ probabilities: soft }, { probabilities: rows }],
    teacher: [{ teacher, hidden: floats(N * 2, 4, 2) }],
  };

  it("PyTorch's losses and gradients for hard and soft targets, with weights and smoothing", async () => {
    for (const want of fixture.cases)
      for (const targets of targetsOf[want.targets]) {
        const { labelSmoothing, reduction } = want;
        const name = `${want.targets}, ${labelSmoothing}, ${want.weighted}, ${reduction}`;
        const got = await crossEntropy(small, hidden, targets, {
          labelSmoothing,
          reduction,
          classWeights: want.weighted ? floats(V, 6).map(Math.abs) : undefined,
          gradients: true,
          gradOutput: reduction === "none" ? [1, 2, 3] : undefined,
        });
        expectClose(`${name}: loss`, list(got.loss), list(want.loss));
        for (const part of ["hidden", "weight", "bias"] as const)
          expectClose(`${name}: ${part}`, got[part], want[part]);
        expect(got.count).toBe(want.targets === "ids" ? 2 : 3);
      }
  });

  it("divides the z-loss by the number of kept rows, whatever the class weights", async () => {
    const classWeights = Float32Array.of(0.5, 2, 3, 1, 0.25);
    const options = { classWeights, gradients: true } as const;
    const ids = [4, -100, 2];
    const { logSumExp } = await small.ask(hidden, { logSumExp: true });
    const plain = await crossEntropy(small, hidden, ids, options);
    const both = await crossEntropy(small, hidden, ids, { ...options, zLoss: 0.5 });
    expect(both.loss - plain.loss).toBeCloseTo((0.5 * (logSumExp[0] ** 2 + logSumExp[2] ** 2)) / 2, 12);
    // Without the targets' part, the z-loss is all that is left of a sum.
    const only = await crossEntropy(small, hidden, ids, {
      classWeights: new Float32Array(V),
      gradients: true,
      reduction: "sum",
      zLoss: 0.25,
    });
    for (const part of ["hidden", "weight", "bias"] as const)
      expectClose(
        part,
        both[part]?.map((x, i) => x - (plain[part]?.[i] ?? NaN)),
        only[part] ?? [],
      );
  });

  it("gives just what was asked, and a loss that gradients do not change", async () => {
    const plain = await crossEntropy(small, hidden, [0, 1, 2]);
    expect(Object.keys(plain).sort()).toEqual(["count", "loss"]);
    const { loss, ...rest } = await crossEntropy(small, hidden, [0, 1, 2], { gradients: { bias: true } });
    expect(loss).toBe(plain.loss);
    expect(Object.keys(rest).sort()).toEqual(["bias", "count"]);
    const asked = await small.ask(hidden, { logProbs: [[0], [1], [2]] });
    expect(loss).toBeCloseTo(-asked.logProbs.reduce((sum, [p]) => sum + p, 0) / 3, 12);
    const each: Float64Array = (await crossEntropy(small, hidden, [0, 1, 2], { reduction: "none" })).loss;
    expect(each.reduce((sum, x) => sum + x, 0) / 3).toBeCloseTo(loss, 12);
  });

  it("adds a weight's gradient to a matrix over several calls, and frees its own", async () => {
    const before = device.memory;
    const whole = await crossEntropy(small, hidden, [0, 1, 2], { reduction: "sum", gradients: true });
    expect(device.memory).toBe(before);
    const weight = await device.matrix(floatSource("gradient", V, D, new Float32Array(V * D)));
    for (let n = 0; n < N; n++) {
      const row = hidden.slice(n * D, (n + 1) * D);
      const part = await crossEntropy(small, row, [n], { reduction: "sum", gradients: { weight } });
      expect(Object.keys(part).sort()).toEqual(["count", "loss"]);
    }
    const sum = await weight.gather(Array.from({ length: V }, (_, i) => i));
    expect(distance(sum, whole.weight ?? [])).toBeLessThan(1e-6);
    weight.free();
    const failed = crossEntropy(small, Float32Array.from(hidden).fill(3e38), [0, 1, 2], {
      gradients: true,
    });
    await expect(failed).rejects.toThrow(InputError);
    expect(device.memory).toBe(before);
  });

  it("ignores rows before any work: NaN in them is not seen, and all ignored is 0", async () => {
    const spoilt = Float32Array.from(hidden);
    spoilt.fill(NaN, D, 2 * D);
    const options = { gradients: true, zLoss: 0.1, labelSmoothing: 0.1, reduction: "sum" } as const;
    const got = await crossEntropy(small, spoilt, [4, -100, 2], options);
    const pair = Float32Array.from([...hidden.subarray(0, D), ...hidden.subarray(2 * D)]);
    const alone = await crossEntropy(small, pair, [4, 2], options);
    expect([got.loss, got.count]).toEqual([alone.loss, 2]);
    expect(got.hidden?.slice(2 * D)).toEqual(alone.hidden?.slice(D));
    expect(got.hidden?.slice(D, 2 * D)).toEqual(new Float32Array(D));
    expect(got.weight).toEqual(alone.weight);
    for (const reduction of ["mean", "sum"] as const)
      expect(await crossEntropy(small, spoilt, [3, 3, 3], { ...options, ignoreIndex: 3, reduction })).toEqual(
        {
          loss: 0,
          count: 0,
          hidden: new Float32Array(N * D),
          weight: new Float32Array(V * D),
          bias: new Float32Array(V),
        },
      );
    const none = await crossEntropy(small, spoilt, [3, 3, 3], { ignoreIndex: 3, reduction: "none" });
    expect(none).toEqual({ loss: new Float64Array(N), count: 0 });
    expect(await crossEntropy(small, new Float32Array(0), [])).toEqual({ loss: 0, count: 0 });
    expect(await crossEntropy(small, new Float32Array(0), { probabilities: [] })).toEqual({
      loss: 0,
      count: 0,
    });
    const later = Float32Array.from(hidden).fill(NaN, 2 * D);
    await expect(crossEntropy(small, later, [-100, 0, 1])).rejects.toThrow(
      /row 1 holds NaN.*rows are counted without the ignored ones/,
    );
  });

  it("a head distilled from itself has the teacher's entropy as loss and no gradient", async () => {
    const { entropy } = await small.ask(hidden, { entropy: true });
    const targets = { teacher: small, hidden };
    const got = await crossEntropy(small, hidden, targets, { reduction: "none", gradients: true });
    expectClose("loss", got.loss, entropy);
    for (const part of [got.hidden, got.weight, got.bias])
      expect(Math.max(...(part ?? [NaN]).map(Math.abs))).toBeLessThan(1e-6);
  });

  it("masked tokens: no gradient, and an error when a loss is infinite", async () => {
    const bias = Float32Array.of(0, -Infinity, 0, 0, 0);
    const masked = await head(V, D, floats(V * D, 2, 2), { bias });
    const got = await crossEntropy(masked, hidden, [0, 2, 3], { gradients: true, zLoss: 0.1 });
    expect([got.bias?.[1], ...(got.weight?.slice(D, 2 * D) ?? [])]).toEqual([0, 0, 0, 0]);
    expect([got.loss, ...(got.hidden ?? [NaN])].every(Number.isFinite)).toBe(true);
    await expect(crossEntropy(masked, hidden, [0, 1, 2])).rejects.toThrow(
      /row 1: its loss is infinite, for id 1/,
    );
    const smoothed = crossEntropy(masked, hidden, [0, 2, 3], { labelSmoothing: 0.1 });
    await expect(smoothed).rejects.toThrow(/row 0: its loss is infinite, for id 1/);
    const unmasked = { teacher, hidden: floats(N * 2, 4, 2) };
    await expect(crossEntropy(masked, hidden, unmasked)).rejects.toThrow(/loss is infinite/);
    const self = { teacher: masked, hidden };
    expect((await crossEntropy(masked, hidden, self)).loss).toBeGreaterThan(0);
    const classWeights = Float32Array.of(1, 0, 1, 1, 1);
    const weighted = await crossEntropy(masked, hidden, [0, 2, 3], { labelSmoothing: 0.1, classWeights });
    expect(weighted.loss).toBeGreaterThan(0);
  });

  it("refuses what does not fit", async () => {
    const ids = [0, 1, 2];
    const two = [
      { ids: [0], probs: [1] },
      { ids: [1], probs: [1] },
    ];
    const elsewhere = await openDevice({ device: "reference" });
    const stranger = await LinearHead.random({ vocabSize: V, hiddenSize: 2, seed: 1, device: elsewhere });
    const bigger = await head(V + 1, 2, floats(V * 2 + 2, 1));
    const bare = await head(V, D, floats(V * D, 2));
    const teacherHidden = floats(N * 2, 4);
    const far = { ...bare.weights.matrix, name: "far", rows: V, cols: D, type: "f32" };
    const bad: [RegExp, unknown, object?, LinearHead?, Float32Array?][] = [
      [/unknown option "ignore_index"/, ids, { ignore_index: 0 }],
      [/unknown option "biases"/, ids, { gradients: { biases: true } }],
      [/whole rows of 3 numbers, got 8/, ids, {}, small, hidden.subarray(1)],
      [/row 1 holds NaN/, ids, {}, small, hidden.map((x, i) => (i === D ? NaN : x))],
      [/expected 3, one a row of hidden, got 2/, [0, 1]],
      [/row 2: expected an id in \[0, 5\) or ignoreIndex -100, got 5/, [0, 1, 5]],
      [/row 0: expected an id in \[0, 5\) or ignoreIndex -1, got -100/, [-100, 1, 2], { ignoreIndex: -1 }],
      [/got 1.5/, [0, 1, 1.5]],
      [/got undefined/, [0, undefined, 1]],
      [/expected ids.*got null/, null],
      [/expected ids.*or \{ teacher, hidden \}/, { ids: [] }],
      [/unknown option "temperature"/, { probabilities: soft, temperature: 2 }],
      [/unknown option "weight"/, { probabilities: [...rows.slice(1), { ...rows[0], weight: 1 }] }],
      [/row 1: expected \{ ids, probs \}/, { probabilities: [rows[0], 5, rows[1]] }],
      [/probabilities: expected 3, one a row of hidden, got 2/, { probabilities: two }],
      [/expected an array of/, { probabilities: { ids: [0], probs: [1] } }],
      [/of \[3, k\], got 6 ids and 5 probs/, { probabilities: { ...soft, probs: soft.probs.subarray(1) } }],
      [/row 2: 1 ids came with 2 probs/, { probabilities: [...two, { ids: [0], probs: [0, 1] }] }],
      [/row 2: expected an id in \[0, 5\), got -1/, { probabilities: [...two, { ids: [-1], probs: [1] }] }],
      [
        /row 2: expected probabilities from 0, got -0.1/,
        { probabilities: [...two, { ids: [0], probs: [-0.1] }] },
      ],
      [/from 0, got NaN/, { probabilities: [...two, { ids: [0], probs: [NaN] }] }],
      [/at most 1 in all, got 1.1/, { probabilities: [...two, { ids: [0, 1], probs: [0.5, 0.6] }] }],
      [/ignoreIndex is of targets that are ids/, { probabilities: rows }, { ignoreIndex: 0 }],
      [/on another device/, { teacher: stranger, hidden: teacherHidden }],
      [/on another device/, { teacher: undefined, hidden: teacherHidden }],
      [/teacher's vocabulary has 6 ids and the head's 5/, { teacher: bigger, hidden: teacherHidden }],
      [/the teacher's 3 rows of 2 numbers.*got 4/, { teacher, hidden: teacherHidden.subarray(2) }],
      [
        /classWeights do not go with a teacher/,
        { teacher, hidden: teacherHidden },
        { classWeights: new Float32Array(V) },
      ],
      [/ignoreIndex: expected a whole number, got 0.5/, ids, { ignoreIndex: 0.5 }],
      [/labelSmoothing: expected a number in \[0, 1\], got 1.5/, ids, { labelSmoothing: 1.5 }],
      [/labelSmoothing.*got NaN/, ids, { labelSmoothing: NaN }],
      [/zLoss: expected a finite number from 0, got -1/, ids, { zLoss: -1 }],
      [/classWeights: expected 5 numbers, one an id, got 4/, ids, { classWeights: new Float32Array(4) }],
      [/got NaN at id 0/, ids, { classWeights: new Float32Array(V).fill(NaN) }],
      [/class weights of the targets, and they are all 0/, ids, { classWeights: new Float32Array(V) }],
      [/reduction: expected mean, sum or none, got "avg"/, ids, { reduction: "avg" }],
      [/expected true, false or .*got null/, ids, { gradients: null }],
      [/the head has no bias/, ids, { gradients: { bias: true } }, bare],
      [/expected an f32 matrix \[5, 3\]/, ids, { gradients: { weight: bigger.weights.matrix } }],
      [/is the weight matrix/, ids, { gradients: { weight: small.weights.matrix } }],
      [/"far" belongs to another device/, ids, { gradients: { weight: far } }],
      [/gradOutput scales gradients, but none/, ids, { gradOutput: 2 }],
      [/a number for reduction mean/, ids, { gradients: true, gradOutput: [1, 1, 1] }],
      [/3 of them, one a row, got 2/, ids, { gradients: true, reduction: "none", gradOutput: [1, 1] }],
      [
        /finite numbers, got NaN for row 1/,
        ids,
        { gradients: true, reduction: "none", gradOutput: [1, NaN, 1] },
      ],
    ];
    for (const [message, targets, options, h = small, x = hidden] of bad) {
      const call = crossEntropy(h, x, targets as Targets, options as CrossEntropyOptions);
      await expect(call, String(message)).rejects.toThrow(message);
      await expect(call).rejects.toBeInstanceOf(InputError);
    }
    await elsewhere.close();
    await expect(
      crossEntropy(small, hidden, ids, { gradients: true, signal: AbortSignal.abort() }),
    ).rejects.toBeInstanceOf(AbortError);
  });
});
