import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../../../src/errors.js";
import { AdamW, adamwStep } from "../../../src/train/optimizers/adamw.js";
import { Lion } from "../../../src/train/optimizers/lion.js";
import { Muon, muonStep } from "../../../src/train/optimizers/muon.js";
import type { Optimizer, OptimizerState } from "../../../src/train/optimizers/optimizer.js";
import type { Parameter } from "../../../src/train/optimizers/parameter.js";
import { Sgd, sgdStep } from "../../../src/train/optimizers/sgd.js";
import { floats } from "../../kernels/random.js";

const parameters: readonly Parameter[] = [
  { name: "wte", shape: [9, 4], kind: "vocabulary" },
  { name: "up", shape: [6, 4], kind: "matrix" },
  { name: "down", shape: [4, 6], kind: "matrix" },
  { name: "norm", shape: [4], kind: "vector" },
];
const lengths: readonly (readonly [string, number])[] = [
  ["wte", 36],
  ["up", 24],
  ["down", 24],
  ["norm", 4],
];

const arrays = (seed: number, scale = 1) =>
  new Map(lengths.map(([name, length], k) => [name, floats(length, seed * 10 + k, scale)]));
const zeros = () => arrays(1, 0);

/** Each optimizer, with what has most state and most terms. */
const all: readonly [string, () => Optimizer][] = [
  ["AdamW", () => new AdamW(parameters, { weightDecay: 0.1 })],
  ["Sgd", () => new Sgd(parameters, { momentum: 0.9, nesterov: true, weightDecay: 0.1 })],
  ["Sgd without momentum", () => new Sgd(parameters, { weightDecay: 0.1 })],
  ["Lion", () => new Lion(parameters, { weightDecay: 0.1 })],
  ["Muon", () => new Muon(parameters)],
];

describe.each(all)("%s", (name, make) => {
  it("changes only its state at learning rate 0", () => {
    fc.assert(
      fc.property(fc.nat(1e6), fc.integer({ min: 1, max: 4 }), (seed, count) => {
        const optimizer = make();
        const values = arrays(seed);
        const before = structuredClone(values);
        for (let i = 0; i < count; i++) optimizer.step(values, arrays(seed + 1 + i), 0);
        expect(values).toEqual(before);
        expect(optimizer.steps).toBe(count);
        for (const array of optimizer.exportState().tensors.values())
          expect(array.some((x) => x !== 0)).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  it("goes on from an exported state with the same bits", () => {
    fc.assert(
      fc.property(fc.nat(1e6), fc.nat(5), (seed, cut) => {
        const [straight, before] = [make(), make()];
        const [want, got] = [arrays(seed), arrays(seed)];
        for (let i = 0; i < 8; i++) straight.step(want, arrays(seed + i), 0.01);
        for (let i = 0; i < cut; i++) before.step(got, arrays(seed + i), 0.01);
        const state = before.exportState();
        const after = make();
        after.importState(state);
        expect(after.exportState()).toEqual(state);
        before.step(arrays(1), arrays(2), 0.1); // A copy: what goes on in the old one reaches neither.
        expect(after.exportState()).toEqual(state);
        for (let i = cut; i < 8; i++) after.step(got, arrays(seed + i), 0.01);
        expect(got).toEqual(want);
        expect(after.exportState()).toEqual(straight.exportState());
      }),
      { numRuns: 20 },
    );
  });

  it("decays matrices and vocabularies, not vectors", () => {
    const optimizer = make();
    const values = arrays(3);
    const before = structuredClone(values);
    optimizer.step(values, zeros(), 0.5);
    expect(values.get("norm")).toEqual(before.get("norm"));
    for (const matrix of ["wte", "up", "down"])
      for (const [i, x] of values.get(matrix)!.entries())
        expect(Math.abs(x)).toBeLessThan(Math.abs(before.get(matrix)![i]));
  });

  it("depends on neither the order of the maps nor that of the parameters' arrays in memory", () => {
    const [a, b] = [make(), make()];
    const [want, got] = [arrays(5), new Map([...arrays(5)].reverse())];
    a.step(want, arrays(6), 0.01);
    b.step(got, new Map([...arrays(6)].reverse()), 0.01);
    for (const [key, array] of want) expect(got.get(key)).toEqual(array);
  });

  it("refuses what does not fit before anything has changed", () => {
    const optimizer = make();
    const values = arrays(7);
    const before = structuredClone(values);
    const wrong = (change: (m: Map<string, Float32Array>) => void) => {
      const map = arrays(8);
      change(map);
      return map;
    };
    const bad: [Map<string, Float32Array>, string][] = [
      [wrong((m) => m.delete("norm")), '"norm" is missing; expected 4 numbers'],
      [wrong((m) => m.set("other", floats(3, 1))), '"other" is unknown'],
      [wrong((m) => m.set("down", floats(3, 1))), '"down": expected 24 numbers, got 3'],
      [
        wrong((m) => m.set("norm", new Float64Array(4) as never)),
        "expected a Float32Array, got Float64Array",
      ],
      [wrong((m) => m.get("norm")!.fill(Number.NaN, 2)), "expected finite numbers, got NaN at index 2"],
      [{ wte: floats(36, 1) } as never, "expected a Map of names to Float32Arrays, got Object"],
    ];
    for (const [map, message] of bad) {
      expect(() => optimizer.step(values, map, 0.1)).toThrow(InputError);
      expect(() => optimizer.step(values, map, 0.1)).toThrow(message);
      expect(() => optimizer.step(map, arrays(8), 0.1)).toThrow(message);
    }
    for (const rate of [-0.1, Number.NaN, Infinity, "0.1" as never, null as never])
      expect(() => optimizer.step(values, arrays(8), rate)).toThrow(/learningRate: expected a number from 0/);
    expect(values).toEqual(before);
    expect(optimizer.exportState()).toEqual(make().exportState());
  });

  it("says so when a step leaves the range of float32", () => {
    const far = new Map(lengths.map(([key, n]) => [key, new Float32Array(n).fill(3e38)]));
    const optimizer = make();
    const run = () => {
      for (let i = 0; i < 3; i++) optimizer.step(far, arrays(9), 1e30);
    };
    expect(run).toThrow(/left the range of float32; restore a checkpoint/);
  });

  it("refuses a state that does not fit, and keeps its own", () => {
    const optimizer = make();
    optimizer.step(arrays(1), arrays(2), 0.1);
    const own = optimizer.exportState();
    const bad: [Partial<Record<keyof OptimizerState, unknown>> & { more?: 1 }, string][] = [
      [{ optimizer: "adam" }, `expected a state of ${own.optimizer}, got one of "adam"`],
      [{ steps: -1 }, "steps: expected a whole number from 0, got -1"],
      [{ steps: 0.5 }, "steps"],
      [{ tensors: new Map([...own.tensors, ["x.m", floats(4, 1)]]) }, '"x.m" is unknown'],
      [{ more: 1 }, 'unknown option "more"'],
    ];
    const last = [...own.tensors.keys()].at(-1);
    if (last !== undefined) {
      bad.push([{ tensors: new Map([...own.tensors].slice(0, -1)) }, `"${last}" is missing`]);
      bad.push([{ tensors: new Map([...own.tensors, [last, floats(5, 1)]]) }, "expected 4 numbers, got 5"]);
      bad.push([{ tensors: new Map([...own.tensors, [last, new Float32Array(4).fill(NaN)]]) }, "NaN"]);
    } else expect(name).toBe("Sgd without momentum");
    if (last?.endsWith(".v"))
      bad.push([{ tensors: new Map([...own.tensors, [last, new Float32Array(4).fill(-1)]]) }, "from 0"]);
    for (const [change, message] of bad) {
      expect(() => optimizer.importState({ ...own, ...change } as OptimizerState)).toThrow(InputError);
      expect(() => optimizer.importState({ ...own, ...change } as OptimizerState)).toThrow(message);
    }
    expect(optimizer.exportState()).toEqual(own);
  });
});

describe("groups", () => {
  it("by name and by function are the same", () => {
    const own = { weightDecay: 0.5, learningRateScale: 2 };
    const [named, chosen, plain] = [
      new AdamW(parameters, { groups: [{ name: "late", parameters: ["down", "norm"], options: own }] }),
      new AdamW(parameters, { groups: ({ name }) => (name === "down" || name === "norm" ? own : undefined) }),
      new AdamW(parameters),
    ].map((optimizer) => {
      const values = arrays(4);
      for (let i = 0; i < 3; i++) optimizer.step(values, arrays(5 + i), 0.01);
      return values;
    });
    expect(named).toEqual(chosen);
    for (const key of ["wte", "up"]) expect(named.get(key)).toEqual(plain.get(key));
    for (const key of ["down", "norm"]) expect(named.get(key)).not.toEqual(plain.get(key));
  });

  it("scale the learning rate", () => {
    const [scaled, whole] = [0.25, 1].map((learningRateScale) => {
      const optimizer = new Lion(parameters, { learningRateScale });
      const values = arrays(4);
      optimizer.step(values, arrays(5), 0.5 / learningRateScale);
      return values;
    });
    expect(scaled).toEqual(whole);
    const far = new Lion(parameters, {
      groups: ({ name }) => ({ learningRateScale: name === "up" ? 1e20 : 1 }),
    });
    const values = arrays(4);
    expect(() => far.step(values, arrays(5), 1e20)).toThrow('learningRate of "up", scaled');
    expect(values).toEqual(arrays(4));
  });

  it.each([
    [[{ name: "g", parameters: ["nrm"], options: {} }], 'group "g": no parameter is named "nrm"'],
    [
      [
        { name: "g", parameters: ["up"], options: {} },
        { name: "h", parameters: ["up"], options: {} },
      ],
      'parameter "up" is listed by group "g" and by group "h"',
    ],
    [[{ name: "g", parameters: ["up"], options: {}, lr: 1 }], 'unknown option "lr"'],
    [[{ name: "g", parameters: ["up"], options: { lr: 1 } }], 'adamw, parameter "up": unknown option "lr"'],
    [
      [{ name: "g", parameters: ["up"], options: { beta1: 1 } }],
      'adamw, parameter "up": beta1: expected a number in [0, 1), got 1',
    ],
  ])("%j is an error", (groups, message) => {
    expect(() => new AdamW(parameters, { groups: groups as never })).toThrow(InputError);
    expect(() => new AdamW(parameters, { groups: groups as never })).toThrow(message);
  });

  it("of Muon take AdamW's options for all but hidden matrices", () => {
    const group = (name: string, options: object) => [{ name: "g", parameters: [name], options }];
    new Muon(parameters, { groups: group("up", { momentum: 0.5 }) });
    new Muon(parameters, { groups: group("wte", { beta1: 0.5 }) });
    expect(() => new Muon(parameters, { groups: group("wte", { momentum: 0.5 }) })).toThrow(InputError);
    expect(() => new Muon(parameters, { groups: group("up", { beta1: 0.5 }) })).toThrow(InputError);
  });
});

describe("Muon", () => {
  it("is AdamW on vocabularies and vectors, and never on hidden matrices", () => {
    const options = { beta1: 0.8, weightDecay: 0.2 };
    const [muon, adamw] = [new Muon(parameters, { adamw: options }), new AdamW(parameters, options)];
    const [a, b] = [arrays(1), arrays(1)];
    for (let i = 0; i < 4; i++) {
      muon.step(a, arrays(i), 0.01);
      adamw.step(b, arrays(i), 0.01);
    }
    for (const key of ["wte", "norm"]) expect(a.get(key)).toEqual(b.get(key));
    for (const key of ["up", "down"]) expect(a.get(key)).not.toEqual(b.get(key));
    expect([...muon.exportState().tensors.keys()]).toEqual([
      "wte.m",
      "wte.v",
      "up.momentum",
      "down.momentum",
      "norm.m",
      "norm.v",
    ]);
  });
});

describe("bad options", () => {
  const bad: [(options: never) => unknown, Record<string, unknown>[]][] = [
    [
      (o) => new AdamW(parameters, o),
      [
        { beta1: 1 },
        { beta1: -0.1 },
        { beta2: Number.NaN },
        { beta2: "0.9" },
        { eps: 0 },
        { eps: -1 },
        { eps: 1e-30 },
        { weightDecay: -0.1 },
        { weightDecay: null },
        { learningRateScale: -1 },
        { lr: 0.1 },
        { amsgrad: true },
      ],
    ],
    [
      (o) => new Sgd(parameters, o),
      [
        { momentum: 1 },
        { momentum: 0.9, dampening: 1.5 },
        { momentum: 0.9, nesterov: 1 },
        { nesterov: true },
        { momentum: 0.9, dampening: 0.1, nesterov: true },
        { dampening: 0.1 },
        { weightDecay: Infinity },
        { beta1: 0.9 },
      ],
    ],
    [
      (o) => new Lion(parameters, o),
      [{ beta1: 2 }, { beta2: 1 }, { weightDecay: Number.NaN }, { eps: 1e-8 }],
    ],
    [
      (o) => new Muon(parameters, o),
      [
        { momentum: 1 },
        { nesterov: "yes" },
        { adjustLearningRate: "none" },
        { weightDecay: -1 },
        { adamw: { beta1: 1 } },
        { adamw: { momentum: 0.9 } },
        { beta1: 0.9 },
      ],
    ],
  ];
  it.each(bad.flatMap(([make, all]) => all.map((options) => [make, options] as const)))(
    "%s %o",
    (make, options) => {
      expect(() => make(options as never)).toThrow(InputError);
    },
  );

  it.each([
    [[], "at least one parameter"],
    [[{ name: "", shape: [1], kind: "vector" }], "a name"],
    [[parameters[0], parameters[0]], 'two parameters are named "wte"'],
    [[{ name: "a", shape: [2], kind: "matrix" }], "shape [rows, cols]"],
    [[{ name: "a", shape: [2, 2], kind: "vector" }], "shape [length]"],
    [[{ name: "a", shape: [2, 0], kind: "vocabulary" }], "whole numbers from 1"],
    [[{ name: "a", shape: [2], kind: "bias" }], 'got "bias"'],
  ])("parameters %j", (list, message) => {
    for (const make of [AdamW, Sgd, Lion, Muon]) {
      expect(() => new make(list as Parameter[])).toThrow(InputError);
      expect(() => new make(list as Parameter[])).toThrow(message);
    }
  });

  it("of the formulas", () => {
    const a = floats(6, 1);
    const short = floats(5, 1);
    const adamw = { learningRate: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0, step: 1 };
    const sgd = { learningRate: 0.1, momentum: 0.9, dampening: 0, nesterov: false, weightDecay: 0, step: 1 };
    const muon = { learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0 };
    expect(() => adamwStep(a, a, a, short, adamw)).toThrow("adamwStep: v holds 5 numbers; expected 6");
    expect(() => adamwStep(a, a, a, a, { ...adamw, step: 0 })).toThrow(
      "step: expected a whole number from 1",
    );
    expect(() => adamwStep(a, a, a, a, { ...adamw, learningRate: -1 })).toThrow(InputError);
    expect(() => sgdStep(a, a, undefined, sgd)).toThrow("needs a buffer");
    expect(() => sgdStep(a, a, a, { ...sgd, momentum: 0 })).toThrow("keeps no buffer");
    expect(() => muonStep(a, a, a, [2, 2], { ...muon, adjustLearningRate: "original" })).toThrow("[2, 2]");
    expect(a).toEqual(floats(6, 1));
  });
});
