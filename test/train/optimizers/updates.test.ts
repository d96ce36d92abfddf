import { describe, expect, it } from "vitest";
import { InputError } from "../../../src/errors.js";
import type { Matrix } from "../../../src/kernels/device.js";
import { AdamW } from "../../../src/train/optimizers/adamw.js";
import { Lion } from "../../../src/train/optimizers/lion.js";
import { Muon } from "../../../src/train/optimizers/muon.js";
import type { Optimizer } from "../../../src/train/optimizers/optimizer.js";
import type { Parameter } from "../../../src/train/optimizers/parameter.js";
import { Sgd } from "../../../src/train/optimizers/sgd.js";
import { type OptimizerOptions, updatesOf } from "../../../src/train/optimizers/updates.js";
import { floats } from "../../kernels/random.js";

const parameters: readonly Parameter[] = [
  { name: "wte", shape: [9, 4], kind: "vocabulary" },
  { name: "up", shape: [6, 4], kind: "matrix" },
  { name: "norm", shape: [4], kind: "vector" },
];
const matrix = (rows: number, cols: number) => ({ name: "x", rows, cols, type: "f32" }) as Matrix;

const groups = [{ name: "late", parameters: ["up"], options: { weightDecay: 0.5, learningRateScale: 2 } }];
const all: readonly [OptimizerOptions, () => Optimizer, Record<string, string[]>][] = [
  [
    { name: "adamw", beta1: 0.8, groups },
    () => new AdamW(parameters, { beta1: 0.8, groups }),
    { wte: ["m", "v"], up: ["m", "v"], norm: ["m", "v"] },
  ],
  [
    { name: "sgd", momentum: 0.9, groups: ({ kind }) => (kind === "vector" ? { momentum: 0 } : undefined) },
    () =>
      new Sgd(parameters, {
        momentum: 0.9,
        groups: ({ kind }) => (kind === "vector" ? { momentum: 0 } : undefined),
      }),
    { wte: ["momentum"], up: ["momentum"], norm: [] },
  ],
  [
    { name: "lion", weightDecay: 0.1, groups },
    () => new Lion(parameters, { weightDecay: 0.1, groups }),
    { wte: ["m"], up: ["m"], norm: ["m"] },
  ],
  [
    { name: "muon", adamw: { beta2: 0.9 }, groups },
    () => new Muon(parameters, { adamw: { beta2: 0.9 }, groups }),
    { wte: ["m", "v"], up: ["momentum"], norm: ["m", "v"] },
  ],
];

describe.each(all)("updatesOf %o", (options, make, states) => {
  const updates = updatesOf(options, parameters);

  it("takes the steps of the class, with state kept elsewhere", () => {
    expect(Object.fromEntries([...updates].map(([name, update]) => [name, update.states]))).toEqual(states);
    const sizes = new Map([
      ["wte", 36],
      ["up", 24],
      ["norm", 4],
    ]);
    const arrays = (seed: number) => new Map([...sizes].map(([name, n], i) => [name, floats(n, seed + i)]));
    const optimizer = make();
    const [want, got] = [arrays(1), arrays(1)];
    const kept = new Map([...sizes].map(([name, n]) => [name, states[name].map(() => new Float32Array(n))]));
    for (let step = 1; step <= 3; step++) {
      optimizer.step(want, arrays(10 * step), 0.01);
      for (const [name, { apply, learningRateScale }] of updates)
        apply(got.get(name)!, arrays(10 * step).get(name)!, kept.get(name)!, 0.01 * learningRateScale, step);
    }
    expect(got).toEqual(want);
  });

  it("makes a device's update of each parameter, and refuses what does not fit", () => {
    const shapes = { wte: [9, 4], up: [6, 4], norm: [1, 4] } as const;
    for (const [name, [rows, cols]] of Object.entries(shapes)) {
      const update = updates.get(name)!;
      const own = states[name].map(() => matrix(rows, cols));
      const [value, gradient] = [matrix(rows, cols), matrix(rows, cols)];
      const made = update.onDevice(value, gradient, own, 0.01, 1, 0.5);
      const kind = options.name === "muon" && name !== "up" ? "adamw" : options.name;
      expect(made).toMatchObject({ kind, factor: 0.5, scalars: {} });
      expect([made.value, made.gradient]).toEqual([value, gradient]);
      for (const [i, state] of states[name].entries())
        expect((made as unknown as Record<string, Matrix>)[state]).toBe(own[i]);
      const bad: [() => unknown, RegExp][] = [
        [
          () => update.onDevice(matrix(2, 2), gradient, own, 0.01, 1, 1),
          /expected a matrix \[.*got \[2, 2\]/,
        ],
        [() => update.onDevice(value, gradient, [...own, value], 0.01, 1, 1), /expected [012] states, got/],
        [() => update.onDevice(value, gradient, own, -1, 1, 1), /learningRate: expected a number from 0/],
        [() => update.onDevice(value, gradient, own, 0.01, 0, 1), /step: expected a whole number from 1/],
      ];
      for (const [call, message] of bad) {
        expect(call).toThrow(InputError);
        expect(call).toThrow(message);
      }
    }
  });
});

describe("updatesOf", () => {
  it("refuses unknown names and options, and parameters that do not fit", () => {
    const bad: [unknown, string][] = [
      [{ name: "adam" }, 'name: expected "adamw", "sgd", "lion" or "muon", got "adam"'],
      [{}, "got undefined"],
      [undefined, "got undefined"],
      ["adamw", "got undefined"],
      [{ name: "adamw", momentum: 0.9 }, 'adamw: unknown option "momentum"'],
      [{ name: "sgd", nesterov: true }, "nesterov needs momentum"],
      [{ name: "lion", beta1: 1 }, "lion: beta1"],
      [{ name: "muon", adamw: { lr: 1 } }, 'muon, adamw: unknown option "lr"'],
      [
        { name: "lion", groups: [{ name: "g", parameters: ["x"], options: {} }] },
        'no parameter is named "x"',
      ],
    ];
    for (const [options, message] of bad) {
      expect(() => updatesOf(options as OptimizerOptions, parameters)).toThrow(InputError);
      expect(() => updatesOf(options as OptimizerOptions, parameters)).toThrow(message);
    }
    for (const name of ["adamw", "sgd", "lion", "muon"] as const)
      expect(() => updatesOf({ name }, [parameters[0], parameters[0]])).toThrow("two parameters are named");
  });
});
