import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../src/kernels/device.js";
import { fileSource, folderFiles } from "../../src/model/formats/node-files.js";
import { openSafetensors } from "../../src/model/formats/safetensors.js";
import { devices } from "../devices.js";
import { shared, sharedPath } from "../shared.js";
import { excess, openRunner } from "./open-runner.js";

const cases = ["gpt2", "gpt2_padded_vocab", "llama", "qwen2", "gemma2", "gpt_neox", "phi"];

// Numbers of transformers in float64 (cases/README.md): every hidden state of every sequence, every layer of the third.
describe.skipIf(!shared).each(devices)("hidden states equal transformers', on %s", (_, open) => {
  let device: Device;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device.close());

  test.each(cases)("%s", async (name) => {
    const folder = sharedPath(`cases/hf/${name}`);
    const runner = await openRunner(folderFiles(folder), device);
    const { sequences } = JSON.parse(readFileSync(`${folder}/expected.json`, "utf8")) as {
      sequences: { input_ids: number[] }[];
    };
    const expected = await openSafetensors(await fileSource(`${folder}/expected.safetensors`));
    const layers = Array.from({ length: runner.body.layers.length + 1 }, (_, l) => l);
    const caches = sequences.map(() => runner.cache());
    // All sequences, of different lengths, in one packed call.
    const feeds = sequences.map(({ input_ids }, i) => ({ cache: caches[i], ids: input_ids }));
    const results = await runner.run(feeds, { rows: "all", layers });
    for (const [i, { ids }] of feeds.entries()) {
      const hidden = await expected.vector(`seq${i}.hidden`, ids.length * runner.dim);
      expect(excess(results[i].hidden, hidden), `sequence ${i}`).toBeLessThan(1);
    }
    for (const layer of layers) {
      const states = await expected.vector(`layers.${layer}`, feeds[2].ids.length * runner.dim);
      expect(excess(results[2].layers.get(layer)!, states), `layer ${layer}`).toBeLessThan(1);
    }
    await expected.close();
    for (const cache of caches) cache.free();
  });
});
