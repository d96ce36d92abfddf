import { describe, expect, it } from "vitest";
import type { Activation } from "../../../src/kernels/op.js";
import {
  actBackward,
  actForward,
  erfc,
  gateBackward,
  gateForward,
} from "../../../src/kernels/reference/act.js";
import {
  type AttentionSpec,
  attentionBackward,
  attentionForward,
} from "../../../src/kernels/reference/attention.js";
import {
  addBackward,
  addForward,
  copyBackward,
  copyForward,
  scaleBackward,
  scaleForward,
} from "../../../src/kernels/reference/elementwise.js";
import { embedBackward, embedForward } from "../../../src/kernels/reference/embed.js";
import { matmulBackward, matmulForward } from "../../../src/kernels/reference/matmul.js";
import { normBackward, normForward } from "../../../src/kernels/reference/norm.js";
import { positionsBackward, positionsForward } from "../../../src/kernels/reference/positions.js";
import { type RopeSpec, ropeBackward, ropeForward } from "../../../src/kernels/reference/rope.js";
import { uniform } from "../random.js";

let seed = 1;
const random = (length: number): Float64Array => Float64Array.from({ length }, uniform(seed++ * 7919));

/**
 * Proves gradients by central differences in float64: for L = Σ dOut · forward(), each entry of each input is moved by
 * ±h and dL compared with what `backward(dOut)` says.
 */
function prove(
  inputs: Record<string, Float64Array>,
  forward: () => Float64Array,
  backward: (dOut: Float64Array) => Record<string, Float64Array | undefined>,
): void {
  const dOut = random(forward().length);
  const loss = () => forward().reduce((sum, y, i) => sum + y * dOut[i], 0);
  const gradients = backward(dOut);
  const h = 1e-5;
  for (const [name, input] of Object.entries(inputs)) {
    const gradient = gradients[name];
    expect(gradient?.length, name).toBe(input.length);
    for (let i = 0; i < input.length; i++) {
      const was = input[i];
      input[i] = was + h;
      const up = loss();
      input[i] = was - h;
      const down = loss();
      input[i] = was;
      const numeric = (up - down) / (2 * h);
      const error = Math.abs((gradient?.[i] ?? Number.NaN) - numeric);
      expect(error, `${name}[${i}]: ${gradient?.[i]} against ${numeric}`).toBeLessThan(
        1e-8 * (1 + Math.abs(numeric)),
      );
    }
  }
}

describe("gradients equal central differences", () => {
  it.each([
    [1, 1, 1],
    [3, 5, 7],
    [5, 1, 4],
  ])("matmul N=%i O=%i K=%i", (N, O, K) => {
    const [x, w, bias] = [random(N * K), random(O * K), random(O)];
    prove(
      { x, w, bias },
      () => matmulForward(x, w, bias, K),
      (dOut) => {
        const { dx, dw, dBias } = matmulBackward(x, w, dOut, K);
        return { x: dx, w: dw, bias: dBias };
      },
    );
  });

  for (const kind of ["layer", "rms"] as const)
    it.each([
      ["plain", 7, 7, 7],
      ["groups that share a weight", 12, 4, 4],
      ["groups with a weight a column", 15, 5, 15],
      ["one column a group", 3, 1, 3],
    ])(`${kind} norm, %s: %i columns, groups of %i, weight of %i`, (_, columns, group, length) => {
      const [x, weight, bias] = [random(3 * columns), random(length), random(length)];
      const spec = { kind, group, eps: 1e-2 };
      prove(
        { x, weight, bias },
        () => normForward(spec, x, columns, weight, bias),
        (dOut) => {
          const { dx, dWeight, dBias } = normBackward(spec, x, columns, dOut, weight, bias);
          return { x: dx, weight: dWeight, bias: dBias };
        },
      );
      prove(
        { x },
        () => normForward(spec, x, columns),
        (dOut) => {
          const { dx, dWeight, dBias } = normBackward(spec, x, columns, dOut);
          expect([dWeight, dBias]).toEqual([undefined, undefined]);
          return { x: dx };
        },
      );
    });

  for (const layout of ["half", "interleaved"] as const)
    it.each([
      [8, 4],
      [10, 3],
      [7, 2],
      [5, 0],
    ])(`rope, ${layout}, heads of %i columns of which %i pairs turn`, (headDim, pairs) => {
      const frequencies = Float64Array.from({ length: pairs }, (_, i) => 0.9 ** i);
      const spec: RopeSpec = { headDim, layout, frequencies, attentionFactor: 1.3 };
      const x = random(3 * 2 * headDim);
      const positions = [0, 5, 131];
      prove(
        { x },
        () => ropeForward(spec, x, positions),
        (dOut) => ({ x: ropeBackward(spec, dOut, positions) }),
      );
    });

  it.each<[string, AttentionSpec, number, number]>([
    ["one of everything", { heads: 1, kvHeads: 1, headDim: 1, scale: 1 }, 1, 0],
    ["plain", { heads: 3, kvHeads: 3, headDim: 5, scale: 0.7 }, 4, 0],
    ["behind a cache", { heads: 2, kvHeads: 2, headDim: 3, scale: 0.7 }, 3, 4],
    ["grouped heads", { heads: 6, kvHeads: 2, headDim: 3, scale: 1.1 }, 3, 2],
    ["a window", { heads: 2, kvHeads: 1, headDim: 3, scale: 1, window: 3 }, 4, 5],
    ["a window of one", { heads: 2, kvHeads: 1, headDim: 3, scale: 1, window: 1 }, 3, 1],
    ["a cap", { heads: 2, kvHeads: 2, headDim: 4, scale: 3, softcap: 1.5 }, 3, 2],
    ["all at once", { heads: 4, kvHeads: 2, headDim: 3, scale: 2, softcap: 2, window: 4 }, 5, 3],
  ])("attention, %s", (_, spec, rows, first) => {
    const q = random(rows * spec.heads * spec.headDim);
    const k = random((first + rows) * spec.kvHeads * spec.headDim);
    const v = random(k.length);
    prove(
      { q, k, v },
      () => attentionForward(spec, q, k, v, first),
      (dOut) => {
        const { dq, dk, dv } = attentionBackward(spec, q, k, v, first, dOut);
        return { q: dq, k: dk, v: dv };
      },
    );
  });

  it.each<Activation>(["geluErf", "geluTanh", "relu", "silu", "tanh"])("act and gate, %s", (kind) => {
    const x = random(23).map((value) => 5 * value);
    prove(
      { x },
      () => actForward(kind, x),
      (dOut) => ({ x: actBackward(kind, x, dOut) }),
    );
    const up = random(23);
    prove(
      { gate: x, up },
      () => gateForward(kind, x, up),
      (dOut) => {
        const { dGate, dUp } = gateBackward(kind, x, up, dOut);
        return { gate: dGate, up: dUp };
      },
    );
  });

  it("add, scale and copy", () => {
    const [a, b] = [random(11), random(11)];
    prove(
      { a, b },
      () => addForward(a, b),
      (dOut) => {
        const { da, db } = addBackward(dOut);
        return { a: da, b: db };
      },
    );
    prove(
      { a },
      () => scaleForward(a, -1.7),
      (dOut) => ({ a: scaleBackward(dOut, -1.7) }),
    );
    prove(
      { a },
      () => copyForward(a),
      (dOut) => ({ a: copyBackward(dOut) }),
    );
  });

  it("embed, where an id that comes twice receives both, and what stood in the gradient stays", () => {
    const table = random(7 * 3);
    const ids = [6, 0, 6, 2];
    prove(
      { table },
      () => embedForward(table, ids, 3, 1.5),
      (dOut) => {
        const dTable = new Float64Array(table.length).fill(1);
        embedBackward(dTable, ids, dOut, 3, 1.5);
        return { table: dTable.map((x) => x - 1) };
      },
    );
  });

  it("positions", () => {
    const [x, table] = [random(4 * 3), random(9 * 3)];
    const positions = [3, 4, 0, 3];
    prove(
      { x, table },
      () => positionsForward(x, table, positions, 2),
      (dOut) => {
        const dTable = new Float64Array(table.length);
        positionsBackward(dTable, positions, 2, dOut);
        return { x: dOut, table: dTable };
      },
    );
  });
});

describe("values known elsewhere", () => {
  it("erfc (CPython's math.erfc)", () => {
    const known = [
      [0, 1],
      [0.5, 0.4795001221869535],
      [1, 0.15729920705028513],
      [1.999, 0.004698443348629488],
      [2, 0.004677734981047265],
      [3, 2.2090496998585438e-5],
      [5, 1.5374597944280351e-12],
      [-1, 1.842700792949715],
    ];
    for (const [x, value] of known) expect(Math.abs(erfc(x) / value - 1)).toBeLessThan(1e-11);
    expect(erfc(40)).toBe(0);
    expect(erfc(-40)).toBe(2);
  });

  it("activations far out are themselves or nothing, never NaN", () => {
    for (const kind of ["geluErf", "geluTanh", "relu", "silu"] as const) {
      const [low, zero, high] = actForward(kind, Float32Array.of(-1e4, 0, 1e4));
      expect([low + 0, zero, high], kind).toEqual([0, 0, 1e4]);
      const [a, , b] = actBackward(kind, Float32Array.of(-1e4, 0, 1e4), Float32Array.of(1, 1, 1));
      expect([a + 0, b], kind).toEqual([0, 1]);
    }
  });

  it("a partial rotary leaves the columns behind its pairs alone, and turns by the angle", () => {
    const spec = { headDim: 5, frequencies: Float64Array.of(Math.PI / 2, Math.PI), attentionFactor: 1 };
    const x = Float64Array.of(1, 2, 3, 4, 5);
    const round = (y: Float64Array) => Array.from(y, (value) => Math.round(value * 1e9) / 1e9 + 0);
    expect(round(ropeForward({ ...spec, layout: "half" }, x, [1]))).toEqual([-3, -2, 1, -4, 5]);
    expect(round(ropeForward({ ...spec, layout: "interleaved" }, x, [1]))).toEqual([-2, 1, -3, -4, 5]);
  });
});
