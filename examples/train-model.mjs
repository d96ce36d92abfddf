// Trains a small language model from nothing, in memory: a tokenizer, batches, steps; and lets it write.
import { Batches, learningRate, memoryIds, randomModel, Trainer, tokenizerFromJson, trainBpe } from "lmhead";

// A language of little sense: someone does something somewhere.
const who = ["the cat", "a dog", "the old king", "my sister", "a small bird", "the farmer"];
const does = ["sat", "slept", "sang", "waited", "danced", "laughed"];
const where = ["on the mat", "in the garden", "by the river", "under a tree", "at home"];
const pick = (list, n) => list[n % list.length];
const texts = Array.from(
  { length: 300 },
  (_, n) => `${pick(who, n)} ${pick(does, n * 7 + 1)} ${pick(where, n * 3)}.`,
);

const end = "<|endoftext|>";
const { json, vocabSize } = await trainBpe(texts, { vocabSize: 400, specialTokens: [end] });
const tokenizer = tokenizerFromJson("toy", json, { eos_token: end });
const [endOfText] = tokenizer.eosIds;
const ids = memoryIds(
  "toy",
  texts.map((text) => tokenizer.encode(text)),
  { endOfText },
);

const model = await randomModel(
  { family: "llama", vocabSize, hiddenSize: 64, layers: 2, heads: 4, maxPositions: 32, tied: true },
  { tokenizer, seed: 1 },
);
const trainer = await Trainer.create(model, { optimizer: { name: "muon" }, maxNorm: 1 });
const batches = new Batches(ids, { length: 32, size: 8, seed: 1 });
const steps = 80;
const schedule = { kind: "cosine", peak: 0.02, steps, warmupSteps: 8 };
for (let step = 0; step < steps; step++) {
  const { loss } = await trainer.step([await batches.batch(step)], learningRate(schedule, step));
  if (step % 20 === 0 || step === steps - 1) console.log(`step ${step}: loss ${loss.toFixed(3)} nats`);
}

const { text } = await model.generateAll({ ids: [endOfText] }, { seed: 3, maxNewTokens: 20 });
console.log(`it writes: ${text}`);
trainer.free();
await model.close();
