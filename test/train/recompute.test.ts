import { expect, test, vi } from "vitest";
import { bodyProgram } from "../../src/body/transformer.js";
import { InputError } from "../../src/errors.js";
import type { Device } from "../../src/kernels/device.js";
import { openDevice } from "../../src/kernels/open.js";
import { initialModel } from "../../src/train/initial/initial-model.js";
import { type InitialFamily, initialFamilies } from "../../src/train/initial/shape.js";
import { optimizerOf } from "../../src/train/loop/optimizer.js";
import { fillSettings } from "../../src/train/loop/settings.js";
import type { TrainerOptions } from "../../src/train/trainer/options.js";
import { Trainer } from "../../src/train/trainer/trainer.js";
import { batchOf, trainableModel } from "./model.js";

function fresh(device: Device, family: InitialFamily, layers = 3) {
  const shape = { vocabSize: 23, hiddenSize: 16, layers, heads: 2, maxPositions: 16, tied: false };
  const { config, tensors } = initialModel({ family, ...shape }, 4);
  return trainableModel(device, config, tensors);
}

function batch(number: number) {
  const ids = Array.from({ length: 25 }, (_, i) => (number * 5 + i * 3 + (i > 8 ? 4 : 0)) % 23);
  const targets = ids.map((id) => (id + 3) % 23);
  return batchOf([9, 1, 15], ids, targets);
}

/** Losses, validation and weights of three steps of two batches. */
async function learn(threads: number, family: InitialFamily, layers: number, options: TrainerOptions) {
  const device = await openDevice({ device: "wasm", threads });
  const { model, stored } = await fresh(device, family, layers);
  const trainer = await Trainer.create(model, options);
  const steps = [];
  for (let step = 0; step < 3; step++)
    steps.push(await trainer.step([batch(2 * step), batch(2 * step + 1)], 0.01));
  const found = { steps, evaluated: await trainer.evaluate(batch(9)), weights: await stored() };
  await device.close();
  return found;
}

test.each(initialFamilies)(
  "a %s learns with the same bits with recompute, for any threads",
  async (family) => {
    for (const dropout of [0, 0.2]) {
      const wanted = await learn(1, family, 3, { dropout });
      expect(await learn(3, family, 3, { dropout, recompute: true })).toEqual(wanted);
    }
  },
);

test("one layer has nothing to run again", async () => {
  expect(await learn(1, "llama", 1, { recompute: true })).toEqual(await learn(1, "llama", 1, {}));
});

test("bodyProgram's blocks begin where layers do, with the residual stream alone", async () => {
  const device = await openDevice({ device: "reference" });
  for (const family of initialFamilies) {
    const { model } = await fresh(device, family);
    const { ops, checkpoints = [] } = bodyProgram(model.runner.body, { layers: [0, 1, 2, 3] });
    expect(checkpoints).toHaveLength(2);
    for (const at of checkpoints) expect(ops[at]).toMatchObject({ op: "copy", in: "x" });
  }
  await device.close();
});

test("the trainer and the settings have recompute", async () => {
  const device = await openDevice({ device: "reference" });
  const { model } = await fresh(device, "gpt2");
  const record = vi.spyOn(device, "record");
  const trainer = await Trainer.create(model, { recompute: true });
  await trainer.step([batch(0)], 0.01);
  await trainer.evaluate(batch(0));
  expect(record.mock.calls.map(([, call]) => call.recompute)).toEqual([true, true]);
  const word = "yes" as unknown as boolean;
  await expect(Trainer.create(model, { recompute: word })).rejects.toThrow(InputError);
  expect(optimizerOf(fillSettings("test", {}))).toMatchObject({ recompute: false });
  expect(optimizerOf(fillSettings("test", { recompute: true }))).toMatchObject({ recompute: true });
  await device.close();
});
