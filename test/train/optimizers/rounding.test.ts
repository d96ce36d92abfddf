import { describe, expect, it } from "vitest";
import { average } from "../../../src/kernels/reference/average.js";
import { newtonSchulz } from "../../../src/kernels/reference/newton-schulz.js";
import { sumOfSquares } from "../../../src/kernels/reference/squares.js";
import { AdamW, adamwStep } from "../../../src/train/optimizers/adamw.js";
import { clipByGlobalNorm } from "../../../src/train/optimizers/clip.js";
import { power, rateOf } from "../../../src/train/optimizers/float32.js";
import { lionStep } from "../../../src/train/optimizers/lion.js";
import { muonStep } from "../../../src/train/optimizers/muon.js";
import { sgdStep } from "../../../src/train/optimizers/sgd.js";
import { floats } from "../../kernels/random.js";

/** A machine that knows float32 alone: every result is rounded by a store, as a SIMD lane rounds it. */
const cell = new Float32Array(1);
const f = (x: number) => {
  cell[0] = x;
  return cell[0];
};

describe("rounding", () => {
  it("of AdamW is that of float32 operations in the stated order", () => {
    const [param, m] = [floats(5000, 1), floats(5000, 3)];
    const v = floats(5000, 4).map(Math.abs);
    const grad = floats(5000, 2);
    const wantM = m.map((old, i) => f(old + f(f(1 - 0.9) * f(grad[i] - old))));
    const wantV = v.map((old, i) => f(f(f(0.95) * old) + f(f(f(1 - 0.95) * grad[i]) * grad[i])));
    const root = f(Math.sqrt(1 - 0.95 * 0.95 * 0.95));
    const size = f(0.01 / (1 - 0.9 * 0.9 * 0.9));
    const want = param.map((p, i) => {
      const divisor = f(f(f(Math.sqrt(wantV[i])) / root) + f(1e-8));
      return f(f(p * f(1 - 0.01 * 0.1)) - f(f(size * wantM[i]) / divisor));
    });
    adamwStep(param, grad, m, v, {
      learningRate: 0.01,
      beta1: 0.9,
      beta2: 0.95,
      eps: 1e-8,
      weightDecay: 0.1,
      step: 3,
    });
    expect(m).toEqual(wantM);
    expect(v).toEqual(wantV);
    expect(param).toEqual(want);
  });

  it.each([
    [5, 8],
    [8, 5],
  ])(
    "of Newton–Schulz on [%i, %i] is that of float32 sums over the longer side, one after the other",
    (rows, cols) => {
      const matrix = floats(rows * cols, 6);
      const [small, large] = [Math.min(rows, cols), Math.max(rows, cols)];
      const at = (i: number, j: number) => (rows <= cols ? i * cols + j : j * cols + i);
      const grid = (I: number, J: number, value: (i: number, j: number) => number) =>
        Array.from({ length: I }, (_, i) => Array.from({ length: J }, (_, j) => f(value(i, j))));
      const dot = (K: number, term: (k: number) => number) => {
        let sum = 0;
        for (let k = 0; k < K; k++) sum = f(sum + f(term(k)));
        return sum;
      };
      // At most 40 numbers: any order of adding their squares in float64 rounds to the same float32.
      const norm = f(Math.sqrt(matrix.reduce((sum, x) => sum + x * x, 0)));
      let x = grid(small, large, (i, j) => matrix[at(i, j)] / norm);
      for (let step = 0; step < 5; step++) {
        const old = x;
        const gram = grid(small, small, (i, j) => dot(large, (k) => old[i][k] * old[j][k]));
        const factor = grid(
          small,
          small,
          (i, j) => f(f(-4.775) * gram[i][j]) + f(f(2.0315) * dot(small, (k) => gram[i][k] * gram[k][j])),
        );
        x = grid(
          small,
          large,
          (i, j) => f(f(3.4445) * old[i][j]) + dot(small, (k) => factor[i][k] * old[k][j]),
        );
      }
      const got = newtonSchulz(matrix, rows, cols);
      expect(grid(small, large, (i, j) => got[at(i, j)])).toEqual(x);
    },
  );

  it("of Sgd, Lion and Muon is that of float32 operations in the stated order", () => {
    const n = 5000;
    const [before, grad, old] = [floats(n, 1), floats(n, 2), floats(n, 3)];

    const [p, b] = [before.slice(), old.slice()];
    const momentum = { momentum: 0.9, dampening: 0.1, nesterov: false };
    sgdStep(p, grad, b, { ...momentum, learningRate: 0.1, weightDecay: 0.3, step: 2 });
    const d = before.map((x, i) => f(grad[i] + f(f(0.3) * x)));
    const wantB = d.map((x, i) => f(f(f(0.9) * old[i]) + f(f(1 - 0.1) * x)));
    expect(b).toEqual(wantB);
    expect(p).toEqual(before.map((x, i) => f(x - f(f(0.1) * wantB[i]))));

    const [q, m] = [before.slice(), old.slice()];
    lionStep(q, grad, m, { learningRate: 0.1, beta1: 0.9, beta2: 0.99, weightDecay: 0.3 });
    const sign = old.map((x, i) => Math.sign(average(x, grad[i], rateOf(0.9))));
    expect(q).toEqual(before.map((x, i) => f(f(x * f(1 - 0.1 * 0.3)) - f(f(0.1) * sign[i]))));
    expect(m).toEqual(old.map((x, i) => average(x, grad[i], rateOf(0.99))));

    const [r, buffer] = [before.slice(), old.slice()];
    const muon = {
      momentum: 0.95,
      nesterov: true,
      weightDecay: 0.3,
      adjustLearningRate: "original",
    } as const;
    muonStep(r, grad, buffer, [1000, 5], { ...muon, learningRate: 0.1 });
    const wantBuffer = old.map((x, i) => average(x, grad[i], rateOf(0.95)));
    const ahead = wantBuffer.map((x, i) => average(x, grad[i], rateOf(0.95)));
    const u = newtonSchulz(ahead, 1000, 5);
    const rate = f(0.1 * Math.sqrt(1000 / 5));
    expect(buffer).toEqual(wantBuffer);
    expect(r).toEqual(before.map((x, i) => f(f(x * f(1 - 0.1 * 0.3)) - f(rate * u[i]))));
  });

  it("of an average keeps the smaller end, whatever β", () => {
    expect(average(1e10, 1, rateOf(0))).toBe(1);
    expect(average(1, 1e10, rateOf(1 - 2 ** -40))).toBeCloseTo(1 + 1e10 * 2 ** -40, 5);
    for (const beta of [0, 0.1, 0.5, 0.9, 0.999]) expect(average(0.25, 0.25, rateOf(beta))).toBe(0.25);
  });

  it("of a power is that of products", () => {
    for (const beta of [0, 0.5, 0.9, 0.999])
      for (const n of [0, 1, 2, 7, 1000]) expect(power(beta, n)).toBeCloseTo(beta ** n, 13);
    expect(power(0.9, 1e12)).toBe(0);
  });

  it("of AdamW keeps tiny gradients finite", () => {
    const values = new Map([["a", new Float32Array(3)]]);
    const optimizer = new AdamW([{ name: "a", shape: [3], kind: "vector" }], { eps: 1e-20 });
    optimizer.step(values, new Map([["a", Float32Array.of(0, 1e-30, 1e-45)]]), 0.1);
    expect([...values.get("a")!].every((x) => Math.abs(x) <= 0.1)).toBe(true);
  });
});

describe("the global norm", () => {
  it("sums in chunks of 4096, in four lanes of float64", () => {
    // Magnitudes from 1 to 2^30, so that another order would round to another sum.
    const values = floats(4096 * 2 + 7, 8).map((x, i) => x * 2 ** (i % 31));
    let want = 0;
    for (let at = 0; at < values.length; at += 4096) {
      const lane = (l: number) => {
        let sum = 0;
        for (let i = at + l; i < Math.min(values.length, at + 4096); i += 4) sum += values[i] ** 2;
        return sum;
      };
      want += lane(0) + lane(2) + (lane(1) + lane(3));
    }
    expect(sumOfSquares(values)).toBe(want);
  });

  it("does not depend on the map's order, and does not overflow", () => {
    const named = Array.from({ length: 9 }, (_, i): [string, Float32Array] => [`p${i}`, floats(999, i)]);
    const norm = clipByGlobalNorm(new Map(named), Infinity);
    expect(clipByGlobalNorm(new Map([...named].reverse()), Infinity)).toBe(norm);
    expect(norm).toBeGreaterThan(50);
    const large = new Map([["a", new Float32Array(100).fill(3e38)]]);
    expect(clipByGlobalNorm(large, 1e9) / 3e39).toBeCloseTo(1, 6);
    expect(clipByGlobalNorm(large, Infinity) / 1e9).toBeCloseTo(1, 6);
  });

  it("scales by maxNorm / (norm + 1e-6), rounded once", () => {
    const gradients = new Map([["a", Float32Array.of(3e-3, 0, 4e-3)]]);
    const want = gradients.get("a")!.map((x) => x * f(1e-3 / (Math.hypot(f(3e-3), f(4e-3)) + 1e-6)));
    clipByGlobalNorm(gradients, 1e-3);
    expect(gradients.get("a")).toEqual(want);
  });

  it("leaves gradients below the norm, and zeros, as they are", () => {
    const gradients = new Map([
      ["a", floats(10, 1)],
      ["b", new Float32Array(3)],
    ]);
    const before = structuredClone(gradients);
    expect(clipByGlobalNorm(gradients, 100)).toBeGreaterThan(0);
    expect(gradients).toEqual(before);
    expect(clipByGlobalNorm(new Map([["b", new Float32Array(3)]]), 1e-3)).toBe(0);
  });

  it("names the first tensor that is not finite, and changes nothing", () => {
    const gradients = new Map([
      ["c", Float32Array.of(1, Number.NaN)],
      ["b", Float32Array.of(1, 2, -Infinity)],
      ["a", Float32Array.of(1e5)],
    ]);
    expect(() => clipByGlobalNorm(gradients, 1)).toThrow(
      'clipByGlobalNorm: "b": expected finite numbers, got -Infinity at index 2',
    );
    expect(gradients.get("a")).toEqual(Float32Array.of(1e5));
    for (const maxNorm of [0, -1, Number.NaN, "1" as never])
      expect(() => clipByGlobalNorm(new Map(), maxNorm)).toThrow(/maxNorm: expected a number above 0/);
    expect(() => clipByGlobalNorm(new Map([["a", [1, 2] as never]]), 1)).toThrow(
      '"a": expected a Float32Array',
    );
  });
});
