import { readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { readHuggingFace } from "../../src/body/families/index.js";
import type { Device } from "../../src/kernels/device.js";
import { type MemoryTensor, memoryCheckpoint } from "../../src/model/formats/memory.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { placeModel } from "../../src/model/load.js";
import { type Batch, IGNORE } from "../../src/train/data/batches.js";
import { storedTensors } from "../../src/train/loop/stored-tensors.js";
import { type StoredParameter, storedLayout } from "../../src/train/stored-layout.js";
import { Trainer, type TrainStep } from "../../src/train/trainer/trainer.js";
import { devices } from "../devices.js";
import { tinyTensors } from "../fixtures/tiny-models.js";

/** What transformers made of a config; see fixtures/make_training.py. */
interface Case {
  readonly config: Record<string, unknown>;
  readonly losses: readonly number[];
  readonly gradientNorm: number;
  /** [shape, [norm, largest, Σ gᵢ·cos i, picks] of the gradient g, [Σ gᵢ·cᵢ, picks] of the change c], by stored name. */
  readonly tensors: Record<string, readonly [shape: number[], gradient: number[], change: number[]]>;
}

interface Fixture {
  readonly seed: number;
  readonly sequences: readonly (readonly number[])[];
  readonly optimizer: {
    readonly lr: number;
    readonly beta1: number;
    readonly beta2: number;
    readonly eps: number;
    readonly weightDecay: number;
    readonly maxNorm: number;
  };
  readonly cases: Record<string, Case>;
}

type Tensors = Map<string, Float32Array>;

/** What we make of it, by stored names. */
interface Trained {
  /** Of a step on one batch of both sequences, and of one on two batches. */
  readonly first: TrainStep;
  readonly gradient: Tensors;
  readonly firstOfTwo: TrainStep;
  readonly gradientOfTwo: Tensors;
  /** Before each step, and after the last. */
  readonly losses: readonly number[];
  readonly change: Tensors;
}

const { seed, sequences, optimizer, cases } = JSON.parse(
  readFileSync(new URL("./fixtures/training.json", import.meta.url), "utf8"),
) as Fixture;

/** Each token is predicted from those before it; the last of a sequence predicts nothing. */
function batchOf(chosen: Fixture["sequences"]): Batch {
  return {
    ids: Int32Array.from(chosen.flat()),
    targets: Int32Array.from(chosen.flatMap((ids) => [...ids.slice(1), IGNORE])),
    segments: Int32Array.from(chosen, (ids) => ids.length),
    size: chosen.length,
    predicted: chosen.flat().length - chosen.length,
  };
}
const batch = batchOf(sequences);
const batches = sequences.map((ids) => batchOf([ids]));

/** The weights that make_training.py makes too. */
function weightsOf({ tensors }: Case): Map<string, MemoryTensor> {
  const shapes = Object.fromEntries(Object.entries(tensors).map(([name, [shape]]) => [name, shape]));
  const made = Object.entries(tinyTensors(shapes, seed));
  return new Map(made.map(([name, { shape, data }]) => [name, { shape, data: Float32Array.from(data) }]));
}

async function train(name: string, device: Device): Promise<Trained> {
  const { config, losses: wanted } = cases[name];
  const before = weightsOf(cases[name]);
  const checkpoint = memoryCheckpoint(name, weightsOf(cases[name]));
  const layout = await storedLayout(config, checkpoint);
  const opened = {
    name,
    checkpoint,
    ...(await readHuggingFace(name, config, checkpoint)),
    generation: { bosId: undefined, eosIds: [], defaults: {} },
    tokenizer: undefined,
  };
  const model = new LanguageModel(await placeModel(opened, { device, weights: "float32" }));
  const [first, gradient] = await gradientOf(model, layout, [batch]);
  const [firstOfTwo, gradientOfTwo] = await gradientOf(model, layout, batches);

  const { lr, maxNorm, ...hyper } = optimizer;
  const trainer = await Trainer.create(model, { optimizer: { name: "adamw", ...hyper }, maxNorm });
  const losses: number[] = [];
  while (losses.length < wanted.length - 1) losses.push((await trainer.step([batch], lr)).loss);
  const { sum, predicted } = await trainer.evaluate(batch);
  losses.push(sum / predicted);
  const change: Tensors = new Map();
  for (const tensor of storedTensors(model, layout, opened.spec.head.bias)) {
    const { data } = before.get(tensor.name)!;
    change.set(
      tensor.name,
      (await tensor.read()).map((x, i) => x - data[i]),
    );
  }
  trainer.free();
  await model.close();
  return { first, gradient, firstOfTwo, gradientOfTwo, losses, change };
}

/**
 * A step's gradients by stored names: with β₁ = 0 the optimizer's average of gradients is the gradient, and at a learning
 * rate of 0 nothing else changes.
 */
async function gradientOf(
  model: LanguageModel,
  layout: ReadonlyMap<string, StoredParameter>,
  batches: readonly Batch[],
): Promise<[TrainStep, Tensors]> {
  const trainer = await Trainer.create(model, { optimizer: { name: "adamw", beta1: 0 } });
  const step = await trainer.step(batches, 0);
  const states = new Map(trainer.states().map((state) => [state.name, state]));
  const gradient: Tensors = new Map();
  for (const { path, name, toStored } of layout.values()) {
    const numbers = await states.get(`${path}.m`)!.read();
    // A constant that the stored form differs by (Gemma's norms) is no part of a gradient.
    const zero = toStored(new Float32Array(numbers.length));
    gradient.set(
      name,
      toStored(numbers).map((x, i) => x - zero[i]),
    );
  }
  trainer.free();
  return [step, gradient];
}

/**
 * How far float32 may be from float64, as a share: of a loss; of a gradient's norm or largest number; of how far Adam can
 * go in all steps. About three times the most that was measured, of losses ten times.
 */
const LOSS = 1e-6;
const GRADIENT = 1e-5;
const CHANGE = 1e-4;

/** The numbers at `count` places spread over an array, as make_training.py picks them. */
function picks(data: Float32Array, count: number): number[] {
  return Array.from({ length: count }, (_, i) => data[Math.floor(((2 * i + 1) * data.length) / (2 * count))]);
}

const sumOf = (data: Float32Array, by: (i: number) => number) =>
  data.reduce((sum, x, i) => sum + x * by(i), 0);

function expectNear(what: string, got: number, want: number, tolerance: number): void {
  if (!(Math.abs(got - want) <= tolerance))
    throw new Error(`${what}: got ${got}, expected ${want} ± ${tolerance}`);
}

function expectGradient(gradient: Tensors, { tensors }: Case): void {
  expect([...gradient.keys()].sort()).toEqual(Object.keys(tensors).sort());
  for (const [name, [, [norm, largest, turned, ...numbers]]] of Object.entries(tensors)) {
    const g = gradient.get(name)!;
    expectNear(`${name}: norm`, Math.sqrt(sumOf(g, (i) => g[i])), norm, GRADIENT * norm);
    expectNear(
      `${name}: largest`,
      g.reduce((most, x) => Math.max(most, Math.abs(x)), 0),
      largest,
      GRADIENT * largest,
    );
    expectNear(`${name}: Σ gᵢ·cos i`, sumOf(g, Math.cos), turned, GRADIENT * norm);
    const found = picks(g, numbers.length);
    for (const [i, want] of numbers.entries())
      expectNear(`${name}: number ${i}`, found[i], want, GRADIENT * largest);
  }
}

const opened = devices.map(([, open]) => open());
afterAll(async () => {
  for (const device of await Promise.all(opened)) await device.close();
});
const runs = new Map<string, Promise<Trained>>();
/** A case's training on a device, once. */
function trained(name: string, place: number): Promise<Trained> {
  const key = `${name} ${place}`;
  if (!runs.has(key))
    runs.set(
      key,
      opened[place].then((device) => train(name, device)),
    );
  return runs.get(key)!;
}

describe.each(Object.keys(cases))("%s, as transformers in PyTorch trains it", (name) => {
  const wanted = cases[name];

  describe.each(devices.map(([device], place) => [device, place] as const))("%s", (_, place) => {
    test("loss and every parameter's gradient", async () => {
      const { first, gradient, firstOfTwo, gradientOfTwo } = await trained(name, place);
      for (const step of [first, firstOfTwo]) {
        expect(step.predicted).toBe(43);
        expectNear("loss", step.loss, wanted.losses[0], LOSS * wanted.losses[0]);
        expectNear("global norm", step.gradientNorm, wanted.gradientNorm, GRADIENT * wanted.gradientNorm);
      }
      expectGradient(gradient, wanted);
      expectGradient(gradientOfTwo, wanted);
    });

    test("losses of five steps of AdamW, and where they lead", async () => {
      const { losses, gradient, change } = await trained(name, place);
      expect(losses).toHaveLength(wanted.losses.length);
      for (const [i, want] of wanted.losses.entries()) expectNear(`loss ${i}`, losses[i], want, LOSS * want);
      expect([...change.keys()].sort()).toEqual(Object.keys(wanted.tensors).sort());
      const farthest = 5 * optimizer.lr;
      for (const [tensor, [, [, largest, , ...g], [along, ...numbers]]] of Object.entries(wanted.tensors)) {
        const c = change.get(tensor)!;
        const first = gradient.get(tensor)!;
        expectNear(
          `${tensor}: Σ gᵢ·cᵢ`,
          sumOf(c, (i) => first[i]),
          along,
          CHANGE * Math.abs(along),
        );
        const found = picks(c, numbers.length);
        // Of a gradient that is nothing but rounding, Adam makes steps as large as any other.
        for (const [i, want] of numbers.entries())
          if (g[i] === 0 || Math.abs(g[i]) > 1e-3 * largest)
            expectNear(`${tensor}: change ${i}`, found[i], want, CHANGE * farthest);
      }
    });
  });

  test("the same bits with one thread and with three", async () => {
    expect(await trained(name, 2)).toEqual(await trained(name, 1));
  });
});
