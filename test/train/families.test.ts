import { afterAll, describe, expect, test } from "vitest";
import type { LayerSpec, LinearSpec, ModelSpec, NormSpec, RopeSpec } from "../../src/body/spec.js";
import { bodyBuffers } from "../../src/body/transformer.js";
import { memoryCheckpoint } from "../../src/model/formats/memory.js";
import { arraySource } from "../../src/model/formats/sources.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { placeModel } from "../../src/model/load.js";
import { type Batch, IGNORE } from "../../src/train/data/batches.js";
import { modelParameters } from "../../src/train/trainer/parameters.js";
import { numbersOf } from "../../src/train/trainer/slot.js";
import { Trainer } from "../../src/train/trainer/trainer.js";
import { devices } from "../devices.js";
import { uniform } from "../fixtures/tiny-models.js";
import { runFloat64, type Values } from "./fixtures/float64.js";

const [V, D, T] = [23, 12, 9];
const lengths = [T, 5];
const ids = Int32Array.of(3, 7, 3, 22, 0, 7, 7, 14, 9, 22, 3, 0, 5, 5);
const targets = Int32Array.of(7, 3, 22, 0, 7, 7, 14, 9, IGNORE, 3, 0, 5, 5, IGNORE);
const kept = [...targets.keys()].filter((n) => targets[n] !== IGNORE);
const batch: Batch = { ids, targets, segments: Int32Array.from(lengths), size: 2, predicted: kept.length };

const next = uniform(11);
const numbers = (count: number, around: number, scale: number) =>
  Float32Array.from({ length: count }, () => around + scale * next());
const matrix = (rows: number, cols: number) =>
  arraySource("w", rows, cols, numbers(rows * cols, 0, 1.7 / Math.sqrt(cols)));
const linear = (rows: number, cols: number, bias = true): LinearSpec => ({
  weight: matrix(rows, cols),
  ...(bias && { bias: numbers(rows, 0, 0.5) }),
});
const norm = (kind: "layer" | "rms", size = D): NormSpec => ({
  kind,
  weight: numbers(size, 0.8, 0.5),
  ...(kind === "layer" && { bias: numbers(size, 0, 0.5) }),
  eps: 1e-3,
});
const rope = (layout: RopeSpec["layout"], pairs: number): RopeSpec => ({
  layout,
  frequencies: Float64Array.from({ length: pairs }, (_, i) => 0.9 * 0.4 ** i),
  attentionFactor: 1.2,
});

/**
 * Both sublayers at once from norms of their own, norms on their outputs and on the sums, a part of each head turned,
 * norms on queries (each head) and keys (all of them), grouped heads, a cap, a window, a gate.
 */
const everything: LayerSpec = {
  arrangement: "parallel",
  attention: {
    heads: 4,
    kvHeads: 2,
    headDim: 6,
    scale: 0.6,
    softcap: 1.3,
    window: 4,
    rope: rope("interleaved", 2),
    qNorm: norm("layer", 6),
    kNorm: norm("rms", 12),
    qkv: [linear(24, D), linear(12, D, false), linear(12, D)],
    output: linear(D, 24),
    normIn: norm("layer"),
    normOut: norm("rms"),
    normSum: norm("layer"),
  },
  mlp: {
    activation: "geluTanh",
    gate: linear(17, D),
    up: linear(17, D, false),
    down: linear(D, 17),
    normIn: norm("rms"),
    normOut: norm("layer"),
    normSum: norm("rms"),
  },
};

/** As BERT's: no norm before a sublayer, one after each sum; heads of another size, one product for all three. */
const afterSums: LayerSpec = {
  arrangement: "serial",
  attention: {
    heads: 3,
    kvHeads: 3,
    headDim: 5,
    scale: 0.5,
    qkv: [linear(45, D)],
    output: linear(D, 15, false),
    normSum: norm("rms"),
  },
  mlp: { activation: "geluErf", up: linear(20, D), down: linear(D, 20), normSum: norm("layer") },
};

/** The first one's weights again, in another arrangement: one norm for both sublayers, another window, no cap. */
const again: LayerSpec = {
  ...everything,
  attention: {
    ...everything.attention,
    softcap: undefined,
    window: 2,
    rope: rope("half", 3),
    normOut: undefined,
    normSum: undefined,
  },
  mlp: { ...everything.mlp, activation: "silu", normIn: undefined, normSum: undefined },
};

const bodies: Record<string, Pick<ModelSpec, "body" | "head">> = {
  "tied, with a table of positions": {
    body: {
      hiddenSize: D,
      maxPositions: T,
      positions: { table: matrix(T + 2, D), offset: 2 },
      layers: [everything, afterSums, again],
      finalNorm: norm("layer"),
    },
    head: { bias: numbers(V, 0, 0.5), scale: 0.7, softcap: 2, names: [] },
  },
  "untied, without a final norm": {
    body: { hiddenSize: D, maxPositions: T, layers: [again, everything] },
    head: { weight: matrix(V, D), name: "head", scale: 1, names: ["head"] },
  },
};

const table = matrix(V, D);

/** The mean loss in float64, from a program's definition and that of the head and of cross-entropy. */
function lossOf({ runner, head }: LanguageModel, values: Values): number {
  const hidden = runFloat64(runner.program, values, lengths, ids).get(bodyBuffers.hidden)!;
  const { matrix, bias, scale, softcap } = head.weights;
  const weight = values.get(matrix)!;
  let sum = 0;
  for (const n of kept) {
    const logits = Array.from({ length: V }, (_, id) => {
      let logit = bias ? values.get(bias)![id] : 0;
      for (let c = 0; c < D; c++) logit += hidden[n * D + c] * weight[id * D + c];
      return softcap === undefined ? scale * logit : softcap * Math.tanh((scale * logit) / softcap);
    });
    sum += Math.log(logits.reduce((total, logit) => total + Math.exp(logit), 0)) - logits[targets[n]];
  }
  return sum / kept.length;
}

/** dL/dε of values + ε · direction, by central differences of the fourth order. */
function along(model: LanguageModel, values: Values, at: Float64Array, direction: ArrayLike<number>): number {
  const before = at.slice();
  const loss = (step: number) => {
    for (let i = 0; i < at.length; i++) at[i] = before[i] + step * direction[i];
    return lossOf(model, values);
  };
  const h = 1e-3;
  const numeric = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h);
  at.set(before);
  return numeric;
}

function open({ body, head }: Pick<ModelSpec, "body" | "head">, device: LanguageModel["device"]) {
  const opened = {
    name: "odd",
    checkpoint: memoryCheckpoint("odd", new Map()),
    architecture: "Odd",
    spec: { family: "odd", body, embedding: { name: "table", table, scale: 1.6 }, head },
    generation: { bosId: undefined, eosIds: [], defaults: {} },
    tokenizer: undefined,
  };
  return placeModel(opened, { device, weights: "float32" });
}

const held = devices.map(([, openDevice]) => openDevice());
afterAll(async () => {
  for (const device of await Promise.all(held)) await device.close();
});

describe.each(Object.keys(bodies))("a family with everything odd at once: %s", (name) => {
  test.each(devices.map(([device], place) => [device, place] as const))("%s", async (_, place) => {
    const model = new LanguageModel(await open(bodies[name], await held[place]));
    const parameters = modelParameters(model);
    const values = new Map<(typeof parameters)[number]["value"], Float64Array>();
    for (const { value } of parameters)
      values.set(value, Float64Array.from(value instanceof Float32Array ? value : await numbersOf(value)));

    // With β₁ = 0 the optimizer's average is the gradient; a learning rate of 0 changes nothing else.
    const trainer = await Trainer.create(model, { optimizer: { name: "adamw", beta1: 0 } });
    const { loss } = await trainer.step([batch], 0);
    const exact = lossOf(model, values);
    expect(Math.abs(loss - exact)).toBeLessThan(1e-6 * exact);

    // Of the gradient's norm: several times the rounding that was measured.
    const tolerance = model.device.kind === "reference" ? 1e-6 : 5e-6;
    const states = new Map(trainer.states().map((state) => [state.name, state]));
    for (const { name, value } of parameters) {
      const gradient = await states.get(`${name}.m`)!.read();
      const norm = Math.hypot(...gradient);
      expect(norm, name).toBeGreaterThan(1e-3);
      const largest = gradient.reduce((best, x, i) => (Math.abs(x) > Math.abs(gradient[best]) ? i : best), 0);
      const random = uniform(gradient.length);
      const directions = [
        gradient.map(() => random()),
        ...[largest, 0, gradient.length - 1].map((one) => gradient.map((_, i) => (i === one ? 1 : 0))),
      ];
      for (const [i, direction] of directions.entries()) {
        const analytic = gradient.reduce((sum, x, c) => sum + x * direction[c], 0);
        const numeric = along(model, values, values.get(value)!, direction);
        const error = Math.abs(analytic - numeric) / norm;
        expect(error, `${name}, direction ${i}: ${analytic} against ${numeric}`).toBeLessThan(tolerance);
      }
    }
    trainer.free();
    await model.close();
  });
});
