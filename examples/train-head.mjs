// Trains a head alone: cross-entropy gives the loss and the gradients in one call, and AdamW takes the step.
import { AdamW, clipByGlobalNorm, crossEntropy, LinearHead, learningRate, openDevice } from "lmhead";

const [vocabSize, hiddenSize, N] = [100, 16, 256];
// Hidden states of which row n belongs to token n % 100: a fixed direction of its own, and a little noise.
const wave = (token, d) => Math.sin((token + 1) * (d + 1) * 1.7);
const targets = Int32Array.from({ length: N }, (_, n) => n % vocabSize);
const hidden = Float32Array.from({ length: N * hiddenSize }, (_, i) => {
  const [n, d] = [Math.floor(i / hiddenSize), i % hiddenSize];
  return wave(targets[n], d) + 0.1 * Math.sin(n * 12.9 + d * 78.2);
});

const values = new Map([["head", new Float32Array(vocabSize * hiddenSize)]]);
const optimizer = new AdamW([{ name: "head", shape: [vocabSize, hiddenSize], kind: "vocabulary" }]);
const schedule = { kind: "cosine", peak: 0.1, steps: 60, warmupSteps: 5 };
const device = await openDevice();
for (let step = 0; step < 60; step++) {
  const head = await LinearHead.fromArrays({ weight: values.get("head"), vocabSize, hiddenSize, device });
  const { loss, weight } = await crossEntropy(head, hidden, targets, { gradients: { weight: true } });
  await head.close();
  const gradients = new Map([["head", weight]]);
  const norm = clipByGlobalNorm(gradients, 1);
  optimizer.step(values, gradients, learningRate(schedule, step));
  if (step % 20 === 0 || step === 59)
    console.log(`step ${step}: loss ${loss.toFixed(3)}, norm ${norm.toFixed(3)}`);
}
await device.close();
