// One training run, and what is measured of it.
import { rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../dist/errors.js";
import { LanguageModel, openDevice } from "../../dist/node.js";
import { train } from "../../dist/train/loop/train.js";

/**
 * Trains a model by `train()` in a folder that is gone afterwards, and validates it once, after the last step, on all of
 * the validation text.
 * @param {object} options
 * @param {object} options.settings as `train()` reads them
 * @param {string} options.corpus .jsonl file to train on
 * @param {string} options.folder to be made
 * @param {number} [options.threads] default: the device's
 * @param {AbortSignal} [options.signal]
 * @returns what a run's line in the results holds (`results.mjs` says what that is), but for its name and seed
 * @throws InputError as `train()`; AbortError
 */
export async function trainOnce({ settings, corpus, folder, threads, signal }) {
  const device = await openDevice({ threads });
  const times = [];
  const measured = { steps: 0, tokens: 0 };
  let last;
  try {
    const { model } = await train({
      corpus,
      out: folder,
      settings: { ...settings, validateEvery: 0, validationBatches: 0, sampleEvery: 0, checkpointEvery: 0 },
      device,
      signal,
      onStep(step, _, { predicted }) {
        const now = performance.now();
        if (last !== undefined) times.push(now - last);
        last = now;
        measured.steps = step;
        measured.tokens += predicted;
        measured.trainingMemory = device.memory;
      },
      onValidation(_, loss, bitsPerByte) {
        Object.assign(measured, { loss, bitsPerByte });
      },
    });
    const facts = await factsOf(model, settings.tied, threads);
    return { ...measured, seconds: (measured.steps * median(times)) / 1000, ...facts };
  } finally {
    await device.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Of the model as anyone would load it. */
async function factsOf(path, wanted, threads) {
  const model = await LanguageModel.load(path, { threads });
  const { parameters, vocabularyParameters, memory, tied, howTied } = model.info();
  await model.close();
  if (tied !== wanted) throw new Error(`the trained model is ${tied ? "tied" : "untied"}: ${howTied}`);
  const fileBytes = statSync(join(path, "model.safetensors")).size;
  return { parameters, vocabularyParameters, fileBytes, memory };
}

/** A step's usual time: what else the machine does in between counts little. */
function median(times) {
  if (times.length === 0)
    throw new InputError("a run of one step has no time to measure; give more --megabytes");
  return times.toSorted((a, b) => a - b)[times.length >> 1];
}
