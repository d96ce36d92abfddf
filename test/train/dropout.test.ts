import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { bodyProgram } from "../../src/body/transformer.js";
import { InputError } from "../../src/errors.js";
import type { Device } from "../../src/kernels/device.js";
import type { Program } from "../../src/kernels/op.js";
import { openDevice } from "../../src/kernels/open.js";
import { initialModel } from "../../src/train/initial/initial-model.js";
import { optimizerOf } from "../../src/train/loop/optimizer.js";
import { settingsSchema } from "../../src/train/loop/schema.js";
import { fillSettings } from "../../src/train/loop/settings.js";
import type { TrainerOptions } from "../../src/train/trainer/options.js";
import { Trainer } from "../../src/train/trainer/trainer.js";
import { devices } from "../devices.js";
import { floats } from "../kernels/random.js";
import { batchOf, trainableModel } from "./model.js";

interface Fixture {
  readonly config: Record<string, unknown>;
  readonly rate: number;
  readonly seed: number;
  readonly learningRate: number;
  readonly lengths: readonly number[];
  readonly ids: readonly (readonly number[])[];
  readonly targets: readonly (readonly number[])[];
  readonly losses: readonly number[];
  readonly weights: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly scale: number;
    readonly add: number;
    readonly after: readonly number[];
  }[];
}
const { gpt2 } = JSON.parse(readFileSync(new URL("fixtures/dropout.json", import.meta.url), "utf8")) as {
  gpt2: Fixture;
};

/** A new model of two layers, of any family. */
function fresh(device: Device, family: "gpt2" | "llama" | "gemma2" = "llama") {
  const shape = { vocabSize: 23, hiddenSize: 16, layers: 2, heads: 2, maxPositions: 16, tied: true };
  const { config, tensors } = initialModel({ family, ...shape }, 4);
  return trainableModel(device, config, tensors);
}

/** Some batch, by its number. */
function batch(number: number) {
  const ids = Array.from({ length: 14 }, (_, i) => (number * 5 + i * 3 + (i > 8 ? 4 : 0)) % 23);
  return batchOf(
    [9, 5],
    ids,
    ids.map((id) => (id + 3) % 23),
  );
}

const dropping: TrainerOptions = { optimizer: { name: "adamw" }, dropout: 0.2, seed: 11 };

describe.each(devices)("%s", (_, open) => {
  test("two steps of two batches are those of transformers' GPT-2 with the same masks", async () => {
    const device = await open();
    const tensors = new Map(
      gpt2.weights.map(({ name, shape, scale, add }, i) => {
        const count = shape.reduce((a, b) => a * b, 1);
        const data = floats(count, i + 1, scale).map((x) => x + add);
        return [name, { shape, data }];
      }),
    );
    const { model, stored } = await trainableModel(device, gpt2.config, tensors);
    const trainer = await Trainer.create(model, {
      optimizer: { name: "sgd" },
      dropout: gpt2.rate,
      seed: gpt2.seed,
    });
    const batches = gpt2.ids.map((ids, i) => batchOf(gpt2.lengths, ids, gpt2.targets[i]));
    for (const [step, wanted] of gpt2.losses.entries()) {
      const { loss } = await trainer.step(batches.slice(2 * step, 2 * step + 2), gpt2.learningRate);
      expect(Math.abs(loss - wanted)).toBeLessThan(1e-5);
    }
    const mine = await stored();
    expect(mine.size).toBe(gpt2.weights.length);
    for (const { name, after } of gpt2.weights)
      for (const [i, x] of mine.get(name)!.entries())
        expect(Math.abs(x - after[i]), `${name}[${i}]: ${x}, ${after[i]}`).toBeLessThan(1e-5);
    await device.close();
  });

  test("neither evaluate nor the model's own answers drop", async () => {
    const device = await open();
    const { model } = await fresh(device);
    const plain = await Trainer.create(model);
    const drops = await Trainer.create(model, { ...dropping, dropout: 0.9 });
    const ids = [...batch(0).ids.subarray(0, 9)];
    const answer = async () =>
      (await model.runner.run([{ cache: model.runner.cache(), ids }], { rows: "all" }))[0].hidden;
    const before = { hidden: await answer(), sum: (await plain.evaluate(batch(0))).sum };
    expect((await drops.evaluate(batch(0))).sum).toBe(before.sum);
    const { loss } = await drops.step([batch(0)], 0);
    expect(Math.abs(loss * 14 - before.sum)).toBeGreaterThan(1e-3);
    expect((await drops.evaluate(batch(0))).sum).toBe(before.sum);
    expect(await answer()).toEqual(before.hidden);
    await device.close();
  });
});

test("a resumed trainer goes on with the bits that it would have had; another seed does not", async () => {
  const run = async (stop: number | undefined, options = dropping) => {
    const device = await openDevice({ device: "wasm", threads: stop === undefined ? 3 : 1 });
    const { model, stored } = await fresh(device, "gpt2");
    let trainer = await Trainer.create(model, options);
    const losses: number[] = [];
    for (let step = 0; step < 6; step++) {
      if (step === stop) {
        const tensors = new Map<string, Float32Array>();
        for (const { name, read } of trainer.states()) tensors.set(name, (await read()).slice());
        trainer.free();
        trainer = await Trainer.create(model, options);
        await trainer.restore({ steps: step, tensors });
      }
      losses.push((await trainer.step([batch(2 * step), batch(2 * step + 1)], 0.01)).loss);
    }
    const weights = await stored();
    await device.close();
    return { losses, weights };
  };
  const whole = await run(undefined);
  expect(await run(3)).toEqual(whole);
  expect((await run(undefined, { ...dropping, seed: 12 })).losses).not.toEqual(whole.losses);
});

test("the same batch is dropped from otherwise in another step", async () => {
  const device = await openDevice({ device: "wasm", threads: 1 });
  const { model } = await fresh(device);
  const trainer = await Trainer.create(model, dropping);
  const losses: number[] = [];
  for (let step = 0; step < 3; step++) losses.push((await trainer.step([batch(0)], 0)).loss);
  expect(new Set(losses).size).toBe(3);
  await device.close();
});

describe("bodyProgram", () => {
  const names = ({ ops }: Program) =>
    ops.map((op) => (op.op === "dropout" ? `drop ${op.buffer} ${op.stream}` : op.op));

  test("drops after the embedding and of each sublayer's output, behind its norm", async () => {
    const device = await openDevice({ device: "reference" });
    const embed = async (family: "gpt2" | "gemma2") => (await fresh(device, family)).model.runner;
    const gpt = await embed("gpt2");
    const program = bodyProgram(gpt.body, { embed: gpt.embedding.op, dropout: 0.1 });
    const layer = (stream: number) =>
      `norm matmul attention matmul drop branch ${stream} add norm matmul act matmul drop branch ${stream + 1} add`;
    expect(names(program).join(" ")).toBe(`embed positions drop x 0 ${layer(1)} ${layer(3)} norm`);
    // Gemma 2 has norms on its sublayers' outputs.
    const gemma = await embed("gemma2");
    const other = names(bodyProgram(gemma.body, { embed: gemma.embedding.op, dropout: 0.1 })).join(" ");
    expect(other.match(/matmul norm drop branch \d add/g)).toHaveLength(4);
    // Nothing is different where nothing is dropped.
    const none = bodyProgram(gpt.body, { embed: gpt.embedding.op, dropout: 0 });
    expect(none).toEqual(bodyProgram(gpt.body, { embed: gpt.embedding.op }));
    expect(none.buffers).not.toHaveProperty("branch");
    await device.close();
  });

  test.each([-0.1, 1, Number.NaN, Infinity])("refuses a rate of %d", async (dropout) => {
    const device = await openDevice({ device: "reference" });
    const { model } = await fresh(device);
    expect(() => bodyProgram(model.runner.body, { dropout })).toThrow(/dropout: expected a number from 0/);
    await expect(Trainer.create(model, { dropout })).rejects.toThrow(InputError);
    await device.close();
  });
});

test.each([-1, 0.5, 2 ** 53])("the trainer refuses the seed %d", async (seed) => {
  const device = await openDevice({ device: "reference" });
  const { model } = await fresh(device);
  await expect(Trainer.create(model, { seed })).rejects.toThrow(/Trainer: seed: expected a whole number/);
  await device.close();
});

test("settings name the rate, and hand it with the seed to the trainer", () => {
  expect(optimizerOf(fillSettings("test", {}))).toMatchObject({ dropout: 0, seed: 0 });
  const filled = fillSettings("test", { dropout: 0.1, seed: 5 });
  expect(optimizerOf(filled)).toMatchObject({ dropout: 0.1, seed: 5 });
  expect(() => fillSettings("test", { dropout: 1 })).toThrow(
    /dropout: expected a number from 0 to 0.999999, got 1/,
  );
  expect(settingsSchema()).toMatchObject({ properties: { dropout: { type: "number", minimum: 0 } } });
});
