// Trains a small language model from nothing, in memory: a tokenizer, batches, steps; keeps it, and lets it write.
import {
  Batches,
  exportGguf,
  LanguageModel,
  learningRate,
  memoryFiles,
  memoryIds,
  modelFiles,
  randomModel,
  Trainer,
  tokenizerFromJson,
  trainBpe,
} from "lmhead";

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

trainer.free();

// Its files, as a Hugging Face folder has them. In Node `await saveModel(model, "my-model")` writes them to disk.
const files = memoryFiles("my model", await modelFiles(model));
await model.close();
const gguf = await exportGguf(files, { type: "q8_0" });
console.log(`as files: ${(await files.list()).join(", ")}; as GGUF: ${gguf.length} bytes`);

const again = await LanguageModel.load(files);
const { text } = await again.generateAll({ ids: [endOfText] }, { seed: 3, maxNewTokens: 20 });
console.log(`it writes: ${text}`);
await again.close();
