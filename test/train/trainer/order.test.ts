import { expect, test } from "vitest";
import type { Batch } from "../../../src/train/data/batches.js";
import { randomModel } from "../../../src/train/initial/random-model.js";
import { numbersOf } from "../../../src/train/trainer/slot.js";
import { Trainer } from "../../../src/train/trainer/trainer.js";

const T = 12;
const batch = (from: number): Batch => {
  const ids = Int32Array.from({ length: T }, (_, i) => (from + i * 5) % 40);
  return { ids, targets: ids.map((id) => (id + 5) % 40), segments: Int32Array.of(T), size: 1, predicted: T };
};

async function trainer(): Promise<Trainer> {
  const shape = {
    family: "llama",
    vocabSize: 40,
    hiddenSize: 16,
    layers: 1,
    heads: 2,
    maxPositions: T,
  } as const;
  return Trainer.create(await randomModel(shape, { seed: 3, threads: 1 }));
}

test("steps that are asked for together run one after the other", async () => {
  const [one, other] = [await trainer(), await trainer()];
  const serial = [await one.step([batch(0)], 0.01), await one.step([batch(9)], 0.01)];
  const together = await Promise.all([other.step([batch(0)], 0.01), other.step([batch(9)], 0.01)]);
  expect(together).toEqual(serial);
  expect(other.steps).toBe(2);
  const weights = (t: Trainer) => numbersOf(t.model.embedding.vocab.matrix);
  expect(await weights(other)).toEqual(await weights(one));
  await one.model.close();
  await other.model.close();
});

test("a step that fails does not stop the next one", async () => {
  const one = await trainer();
  await expect(one.step([batch(0)], -1)).rejects.toThrow();
  await one.step([batch(0)], 0.01);
  expect(one.steps).toBe(1);
  await one.model.close();
});

test("a state with second moments below 0 is refused before anything changes", async () => {
  const one = await trainer();
  await one.step([batch(0)], 0.01);
  const tensors = new Map<string, Float32Array>();
  for (const { name, read } of one.states()) tensors.set(name, await read());
  const bad = new Map(tensors).set("finalNorm.weight.v", new Float32Array(16).fill(-1));
  await expect(one.restore({ steps: 7, tensors: bad })).rejects.toThrow(/"finalNorm.weight.v".*got -1/);
  expect(one.steps).toBe(1);
  await one.restore({ steps: 7, tensors });
  expect(one.steps).toBe(7);
  await one.model.close();
});
