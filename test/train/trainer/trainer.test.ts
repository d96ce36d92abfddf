import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readHuggingFace } from "../../../src/body/families/index.js";
import { AbortError, InputError } from "../../../src/errors.js";
import type { Device } from "../../../src/kernels/device.js";
import { openDevice } from "../../../src/kernels/open.js";
import { memoryCheckpoint } from "../../../src/model/formats/memory.js";
import { LanguageModel } from "../../../src/model/language-model.js";
import { placeModel } from "../../../src/model/load.js";
import type { Batch } from "../../../src/train/data/batches.js";
import type { OptimizerOptions } from "../../../src/train/optimizers/updates.js";
import { modelParameters } from "../../../src/train/trainer/parameters.js";
import { numbersOf } from "../../../src/train/trainer/slot.js";
import { Trainer } from "../../../src/train/trainer/trainer.js";
import { devices } from "../../devices.js";

interface Case {
  readonly config: Record<string, unknown>;
  /** Shape, and what the numbers lie around. */
  readonly shapes: Record<string, [number[], number]>;
  readonly steps: readonly { readonly loss: number; readonly gradientNorm: number }[];
  /** Σ w² of each tensor after the steps. */
  readonly squares: Record<string, number>;
}
const fixture = JSON.parse(readFileSync(new URL("fixtures/trainer.json", import.meta.url), "utf8")) as {
  readonly shape: { readonly T: number; readonly vocab: number };
  readonly learningRate: number;
  readonly maxNorm: number;
  readonly batches: readonly (readonly (readonly number[])[])[][];
  readonly families: Record<string, Case>;
};
const { learningRate, maxNorm } = fixture;
const { T } = fixture.shape;
const adamw = { name: "adamw", beta1: 0.9, beta2: 0.95, eps: 1e-4, weightDecay: 0.1 } as const;

/** As in make_trainer.py. */
function numbers(k: number, count: number, around: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    let x = (i + 1_000_000 * (k + 1)) | 0;
    x ^= x >>> 16;
    x = Math.imul(x, 0x85ebca6b);
    x ^= x >>> 13;
    x = Math.imul(x, 0xc2b2ae35);
    x ^= x >>> 16;
    return around + 0.6 * ((x >>> 0) / 2 ** 32 - 0.5);
  });
}

async function modelOf(family: string, device: Device, config = {}): Promise<LanguageModel> {
  const { shapes, config: given } = fixture.families[family];
  const tensors = new Map(
    Object.entries(shapes).map(([name, [shape, around]], k) => {
      const count = shape.reduce((a, b) => a * b, 1);
      return [name, { shape, data: numbers(k, count, around) }];
    }),
  );
  const checkpoint = memoryCheckpoint(family, tensors);
  const { architecture, spec } = await readHuggingFace(family, { ...given, ...config }, checkpoint);
  const generation = { bosId: undefined, eosIds: [], defaults: {} };
  const opened = { name: family, checkpoint, architecture, spec, generation, tokenizer: undefined };
  return new LanguageModel(await placeModel(opened, { device, weights: "float32" }));
}

/** Sequences of T + 1 ids. */
function batchOf(sequences: readonly (readonly number[])[]): Batch {
  const flat = (from: number) => Int32Array.from(sequences.flatMap((ids) => ids.slice(from, from + T)));
  const predicted = sequences.length * T;
  const segments = new Int32Array(sequences.length).fill(T);
  return { ids: flat(0), targets: flat(1), segments, size: sequences.length, predicted };
}
const steps = fixture.batches.map((batches) => batches.map(batchOf));

/** Every number that a trainer trains, by name. */
async function weights(trainer: Trainer): Promise<Map<string, Float32Array>> {
  const all = new Map<string, Float32Array>();
  for (const { name, value } of trainer.parameters)
    all.set(name, value instanceof Float32Array ? value.slice() : await numbersOf(value));
  return all;
}

const states = async (trainer: Trainer) =>
  new Map(await Promise.all(trainer.states().map(async ({ name, read }) => [name, await read()] as const)));

describe.each(devices)("a trainer on %s", (_, open) => {
  let device: Device;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device.close());

  test.each(Object.keys(fixture.families))("takes PyTorch's steps: %s", async (family) => {
    const model = await modelOf(family, device);
    const trainer = await Trainer.create(model, { optimizer: adamw, maxNorm });
    const expected = fixture.families[family];
    for (const [s, batches] of steps.entries()) {
      const { loss, gradientNorm, predicted } = await trainer.step(batches, learningRate);
      expect(predicted).toBe(3 * T);
      expect(Math.abs(loss / expected.steps[s].loss - 1), `loss ${s}`).toBeLessThan(2e-5);
      expect(Math.abs(gradientNorm / expected.steps[s].gradientNorm - 1), `norm ${s}`).toBeLessThan(2e-4);
    }
    expect(trainer.steps).toBe(steps.length);
    // All numbers of all tensors, whatever their order; Gemma's norms are stored less 1.
    const trained = await weights(trainer);
    const ours = [...trained].map(([name, values]) => {
      const less = family === "gemma2" && /norm/i.test(name) ? 1 : 0;
      return values.reduce((sum, x) => sum + (x - less) ** 2, 0);
    });
    const theirs = Object.values(expected.squares);
    expect(ours).toHaveLength(theirs.length);
    const sorted = (all: number[]) => [...all].sort((a, b) => a - b);
    for (const [i, value] of sorted(theirs).entries())
      expect(Math.abs(sorted(ours)[i] / value - 1), `tensor ${i}`).toBeLessThan(1e-4);
    trainer.free();
    await model.close();
  });

  test("a step of several batches is a step of them together", async () => {
    const [apart, together] = [await modelOf("llama", device), await modelOf("llama", device)];
    const options = { optimizer: { name: "sgd" }, maxNorm: 0.01 } as const;
    const trainers = [await Trainer.create(apart, options), await Trainer.create(together, options)];
    const one = batchOf(fixture.batches[0].flat());
    const a = await trainers[0].step(steps[0], 1);
    const b = await trainers[1].step([one], 1);
    expect(Math.abs(a.loss - b.loss)).toBeLessThan(1e-6);
    expect(Math.abs(a.gradientNorm - b.gradientNorm)).toBeLessThan(1e-5);
    const [wa, wb] = [await weights(trainers[0]), await weights(trainers[1])];
    for (const [name, values] of wa)
      for (const [i, x] of values.entries()) expect(Math.abs(x - wb.get(name)![i]), name).toBeLessThan(1e-6);
    for (const trainer of trainers) trainer.free();
  });

  test("clipping changes the step and not the norm that is told", async () => {
    const changes: number[] = [];
    const norms: number[] = [];
    for (const limit of [Infinity, 0.25]) {
      const model = await modelOf("gpt2", device);
      const trainer = await Trainer.create(model, { optimizer: { name: "sgd" }, maxNorm: limit });
      const before = await weights(trainer);
      norms.push((await trainer.step(steps[0], 1)).gradientNorm);
      let sum = 0;
      for (const [name, values] of await weights(trainer))
        for (const [i, x] of values.entries()) sum += (x - before.get(name)![i]) ** 2;
      changes.push(Math.sqrt(sum));
      trainer.free();
    }
    expect(norms[1]).toBe(norms[0]);
    expect(norms[0]).toBeGreaterThan(0.5);
    // Plain SGD at rate 1 changes the parameters by the gradient itself.
    expect(Math.abs(changes[0] / norms[0] - 1)).toBeLessThan(1e-4);
    expect(Math.abs(changes[1] / 0.25 - 1)).toBeLessThan(1e-4);
  });

  test("an abort in the middle of a step changes nothing", async () => {
    const model = await modelOf("phi", device);
    const trainer = await Trainer.create(model, { optimizer: adamw });
    await trainer.step(steps[0], learningRate);
    const before = [await weights(trainer), await states(trainer)];
    const controller = new AbortController();
    const aborted = trainer.step([...steps[1], ...steps[2], ...steps[3]], learningRate, controller.signal);
    controller.abort();
    await expect(aborted).rejects.toThrow(AbortError);
    expect([await weights(trainer), await states(trainer)]).toEqual(before);
    expect(trainer.steps).toBe(1);
    trainer.free();
  });

  test("a loss that is not finite is said with its cause, and nothing has changed", async () => {
    const model = await modelOf("llama", device);
    const trainer = await Trainer.create(model, { optimizer: { name: "sgd" } });
    await trainer.step(steps[0], 1e20);
    const before = await weights(trainer);
    await expect(trainer.step(steps[1], 1e20)).rejects.toThrow(/hold .*lower learning rate/);
    expect(await weights(trainer)).toEqual(before);
    trainer.free();
  });
});

const optimizers: readonly OptimizerOptions[] = [
  adamw,
  { name: "muon", momentum: 0.9, adamw: { weightDecay: 0.1 } },
  { name: "lion", weightDecay: 0.1 },
  { name: "sgd", momentum: 0.9 },
];
describe.each(optimizers)("restoring $name", (optimizer) => {
  test("goes on with the same bits, on another number of threads", async () => {
    const run = async (threads: number, stop: boolean) => {
      const device = await openDevice({ device: "wasm", threads });
      const model = await modelOf("gemma2", device);
      let trainer = await Trainer.create(model, { optimizer, maxNorm });
      for (const [s, batches] of steps.entries()) {
        if (stop && s === 2) {
          const [tensors, { steps }] = [await states(trainer), trainer];
          trainer.free();
          // The weights of matrices stand in the model; a checkpoint would hold them.
          for (const { value } of trainer.parameters) if (value instanceof Float32Array) value.fill(9);
          trainer = await Trainer.create(model, { optimizer, maxNorm });
          await trainer.restore({ steps, tensors });
        }
        await trainer.step(batches, learningRate);
      }
      const end = [await weights(trainer), await states(trainer)];
      await device.close();
      return end;
    };
    const whole = await run(1, false);
    expect(await run(3, true)).toEqual(whole);
    expect(await run(2, false)).toEqual(whole);
  });
});

describe("a trainer refuses", () => {
  let model: LanguageModel;
  let trainer: Trainer;
  beforeAll(async () => {
    model = await modelOf("llama", await openDevice({ device: "reference" }));
    trainer = await Trainer.create(model);
  });

  test.each([
    [{ maxNorm: 0 }, /maxNorm: expected a number above 0, got 0/],
    [{ maxNorm: Number.NaN }, /maxNorm/],
    [{ labelSmoothing: 1.5 }, /labelSmoothing/],
    [{ zLoss: -1 }, /zLoss/],
    [{ freeze: "head" }, /freeze: expected nothing or body, got "head"/],
    [{ optimiser: {} }, /unknown option "optimiser"/],
    [{ optimizer: { name: "adam" } }, /optimizer: name/],
  ])("options out of range: %j", async (options, message) => {
    const create = Trainer.create(model, options as never);
    await expect(create).rejects.toThrow(InputError);
    await expect(create).rejects.toThrow(message);
  });

  test("a tied head that is to learn alone", async () => {
    const tied = await modelOf("gpt2", model.device);
    await expect(Trainer.create(tied, { freeze: "body" })).rejects.toThrow(/untie/);
  });

  test("weights that are not float32", async () => {
    const wasm = await openDevice({ device: "wasm", threads: 1 });
    const half = await modelOf("llama", wasm);
    const { matrix } = half.head.weights;
    const other = { ...half.head.weights, matrix: Object.create(matrix, { type: { value: "f16" } }) };
    const bent = Object.create(half, { head: { value: { ...half.head, weights: other } } });
    await expect(Trainer.create(bent)).rejects.toThrow(/held as f16; load the model with weights: "float32"/);
    await wasm.close();
  });

  test("batches that predict nothing", async () => {
    const empty = { ...steps[0][0], targets: new Int32Array(T).fill(-100), predicted: 0 };
    await expect(trainer.step([empty], 0.1)).rejects.toThrow(/predict no token/);
    await expect(trainer.step([], 0.1)).rejects.toThrow(/predict no token/);
  });

  test("a state of another optimizer, before anything has changed", async () => {
    const before = [await weights(trainer), await states(trainer)];
    const good = await states(trainer);
    const [name, values] = [...good][3];
    const bent: [Map<string, Float32Array>, RegExp][] = [
      [new Map([...good].slice(1)), /is missing/],
      [new Map([...good, ["more", new Float32Array(1)]]), /"more" is unknown/],
      [new Map([...good, [name, values.slice(1)]]), /expected \d+ numbers, got \d+/],
      [new Map([...good, [name, values.map(() => Number.NaN)]]), /expected finite numbers, got NaN/],
    ];
    for (const [tensors, message] of bent)
      await expect(trainer.restore({ steps: 1, tensors })).rejects.toThrow(message);
    await expect(trainer.restore({ steps: -1, tensors: good })).rejects.toThrow(/steps: expected/);
    expect([await weights(trainer), await states(trainer)]).toEqual(before);
  });
});

test("what is trained are the model's parameters, each once", async () => {
  const device = await openDevice({ device: "reference" });
  for (const family of Object.keys(fixture.families)) {
    const names = modelParameters(await modelOf(family, device)).map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toHaveLength(Object.keys(fixture.families[family].shapes).length);
  }
});
