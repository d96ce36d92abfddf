import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { newtonSchulz } from "../../../src/kernels/reference/newton-schulz.js";
import { AdamW } from "../../../src/train/optimizers/adamw.js";
import { clipByGlobalNorm } from "../../../src/train/optimizers/clip.js";
import { Lion } from "../../../src/train/optimizers/lion.js";
import { Muon } from "../../../src/train/optimizers/muon.js";
import type { Optimizer } from "../../../src/train/optimizers/optimizer.js";
import type { Parameter } from "../../../src/train/optimizers/parameter.js";
import { Sgd } from "../../../src/train/optimizers/sgd.js";
import { floats } from "../../kernels/random.js";

type Named = Record<string, number[]>;

interface Fixture {
  readonly steps: number;
  readonly shapes: Record<string, [number] | [number, number]>;
  readonly cases: readonly {
    readonly optimizer: "adamw" | "sgd" | "lion" | "muon";
    readonly learningRate: number;
    readonly gradientScale: number;
    readonly options: { readonly weightDecay: number };
    readonly values: Record<string, Named>;
    readonly state: Named;
  }[];
  readonly clipping: readonly {
    readonly gradientScale: number;
    readonly maxNorm: number;
    readonly norm: number;
    readonly gradients: Named;
  }[];
}

/** PyTorch's numbers: see make_optimizers.py. */
const fixture: Fixture = JSON.parse(
  readFileSync(new URL("../fixtures/optimizers.json", import.meta.url), "utf8"),
);

const classes = { adamw: AdamW, sgd: Sgd, lion: Lion, muon: Muon };

/** Largest difference, as a share of the largest number that was expected. */
function error(got: ArrayLike<number>, want: readonly number[]): number {
  expect(got.length).toBe(want.length);
  const largest = Math.max(...want.map(Math.abs));
  return Math.max(...want.map((x, i) => Math.abs(got[i] - x))) / largest;
}

describe("trajectories of PyTorch", () => {
  it.each(fixture.cases)("$optimizer $options gradients × $gradientScale", (run) => {
    const parameters: Parameter[] = Object.entries(fixture.shapes)
      .map(([name, shape]): Parameter => ({ name, shape, kind: shape.length === 2 ? "matrix" : "vector" }))
      .filter(({ kind }) => run.optimizer !== "muon" || kind === "matrix");
    const length = ({ shape }: Parameter) => shape.reduce<number>((a, b) => a * b, 1);
    // PyTorch decays vectors too.
    const groups = () => ({ weightDecay: run.options.weightDecay });
    const optimizer: Optimizer = new classes[run.optimizer](parameters, { ...run.options, groups });
    const values = new Map(parameters.map((p, k) => [p.name, floats(length(p), k + 1)]));
    let compared = 0;
    for (let step = 1; step <= fixture.steps; step++) {
      const gradients = new Map(
        parameters.map((p, k) => [p.name, floats(length(p), 100 * step + k, run.gradientScale)]),
      );
      const rate = run.learningRate * (1 - (0.5 * (step - 1)) / fixture.steps);
      optimizer.step(values, gradients, rate);
      for (const [name, want] of Object.entries(run.values[step] ?? {})) {
        expect(error(values.get(name)!, want), `${name} after step ${step}`).toBeLessThan(1e-6);
        compared++;
      }
    }
    expect(compared).toBe(3 * parameters.length);
    const { tensors } = optimizer.exportState();
    expect([...tensors.keys()].sort()).toEqual(Object.keys(run.state).sort());
    for (const [name, want] of Object.entries(run.state))
      expect(error(tensors.get(name)!, want), name).toBeLessThan(1e-6);
  });
});

describe("clipping as PyTorch", () => {
  it.each(fixture.clipping)("× $gradientScale to $maxNorm", ({ gradientScale, maxNorm, norm, gradients }) => {
    const got = new Map(
      Object.entries(gradients).map(([name, { length }], k) => [name, floats(length, 50 + k, gradientScale)]),
    );
    expect(Math.abs(clipByGlobalNorm(got, maxNorm) / norm - 1)).toBeLessThan(1e-6);
    for (const [name, want] of Object.entries(gradients))
      expect(error(got.get(name)!, want), name).toBeLessThan(1e-6);
  });
});

describe("Newton–Schulz", () => {
  it.each([
    [8, 8],
    [4, 32],
    [32, 4],
    [1, 9],
    [9, 1],
  ])("leaves [%i, %i] nearly orthogonal, whatever its scale", (rows, cols) => {
    const matrix = floats(rows * cols, 5);
    const update = newtonSchulz(matrix, rows, cols);
    // ‖U‖² is the sum of the squared singular values, of about 0.68 to 1.13 each (a square matrix has small ones too).
    const mean = update.reduce((sum, x) => sum + x * x, 0) / Math.min(rows, cols);
    expect(mean).toBeGreaterThan(0.45);
    expect(mean).toBeLessThan(1.3);
    // A power of two scales without rounding: the direction has the same bits.
    expect(
      newtonSchulz(
        matrix.map((x) => x * 2 ** -10),
        rows,
        cols,
      ),
    ).toEqual(update);
    // It points along the matrix.
    expect(update.reduce((sum, x, i) => sum + x * matrix[i], 0)).toBeGreaterThan(0);
  });

  it("leaves zeros zeros", () => {
    expect(newtonSchulz(new Float32Array(6), 2, 3)).toEqual(new Float32Array(6));
  });
});
