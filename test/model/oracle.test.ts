import { existsSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fileSource } from "../../src/model/formats/node-files.js";
import { openSafetensors } from "../../src/model/formats/safetensors.js";
import { LanguageModel } from "../../src/node.js";
import { excess } from "../body/open-runner.js";
import { devices } from "../devices.js";
import { shared, sharedPath } from "../shared.js";

interface Sequence {
  readonly input_ids: number[];
  readonly greedy_new_ids: number[];
}

const readJson = (path: string) => JSON.parse(readFileSync(path, "utf8"));
const families = ["gpt2", "gpt2_padded_vocab", "llama", "qwen2", "gemma2", "gpt_neox", "phi"];

// Numbers of transformers in float64 (cases/README.md).
describe.skipIf(!shared).each(devices)("models equal transformers', on %s", (_, open) => {
  test.each(families)("%s: logits, log-probabilities, greedy text", async (name) => {
    const folder = sharedPath(`cases/hf/${name}`);
    const device = await open();
    const model = await LanguageModel.load(folder, { device, padded: "keep" });
    const expected = readJson(`${folder}/expected.json`) as {
      sequences: (Sequence & { mean_nll: number })[];
      head: { tied: boolean };
    };
    const tensors = await openSafetensors(await fileSource(`${folder}/expected.safetensors`));
    const V = model.info().rows;
    expect(model.info().tied).toBe(expected.head.tied);
    for (const [i, { input_ids: ids, greedy_new_ids: greedy }] of expected.sequences.entries()) {
      const { hidden } = await model.hidden({ ids });
      const { logits } = await model.head.ask(hidden, { logits: true });
      expect(excess(logits, await tensors.vector(`seq${i}.logits`, ids.length * V)), "logits").toBeLessThan(
        1,
      );
      const { tokens } = await model.score({ ids });
      const logProbs = tokens.slice(1).map(({ logProb }) => logProb!);
      if (ids.length > 1) {
        const wanted = await tensors.vector(`seq${i}.next_logprobs`, ids.length - 1);
        expect(excess(logProbs, wanted), "log-probabilities").toBeLessThan(1);
      }
      const options = { greedy: true, ignoreEos: true, maxNewTokens: greedy.length };
      const made = await model.generateAll({ ids }, options);
      expect(made.ids).toEqual(greedy);
      expect(made.finishReason).toBe("length");
    }
    // All prompts, of different lengths, in one call.
    const prompts = expected.sequences.map(({ input_ids: ids }) => ({ ids }));
    for (const [i, distribution] of (await model.next(prompts)).entries())
      expect((await distribution.top(1))[0].id).toBe(expected.sequences[i].greedy_new_ids[0]);
    await tensors.close();
    await model.close();
    await device.close();
  });

  const ggufs = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k"];
  test.each(ggufs)("llama_%s.gguf: logits and greedy ids", async (name) => {
    const path = sharedPath(`cases/gguf/llama_${name}`);
    const device = await open();
    const model = await LanguageModel.load(`${path}.gguf`, { device });
    const { sequences, tied } = readJson(`${path}.json`) as { sequences: Sequence[]; tied: boolean };
    expect(model.info().tied).toBe(tied);
    const tensors = await openSafetensors(await fileSource(`${path}.safetensors`));
    for (const [i, { input_ids: ids, greedy_new_ids: greedy }] of sequences.entries()) {
      const { hidden } = await model.hidden({ ids });
      const { logits } = await model.head.ask(hidden, { logits: true });
      const wanted = await tensors.vector(`seq${i}.logits`, logits.length);
      // Kernels meet blocks with activations in int16: a hundred times the error of f32, a thousandth of a logit.
      const integer = device.kind === "wasm" && name.startsWith("q");
      expect(excess(logits, wanted), "logits").toBeLessThan(integer ? 30 : 1);
      const options = { greedy: true, ignoreEos: true, maxNewTokens: greedy.length };
      expect((await model.generateAll({ ids }, options)).ids).toEqual(greedy);
    }
    await tensors.close();
    await model.close();
    await device.close();
  });
});

const story =
  "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"";

describe.skipIf(!shared).each(devices)("stories260K on %s", (_, open) => {
  test("greedy text, word for word", async () => {
    const device = await open();
    const model = await LanguageModel.load(sharedPath("models/stories260K"), { device });
    let text = "";
    for await (const piece of model.generate({ ids: [1] }, { greedy: true, maxNewTokens: 300 })) {
      text += piece.text;
      if (text.length >= story.length) break;
    }
    expect(text.trimStart().slice(0, story.length)).toBe(story);
    await model.close();
    await device.close();
  });
});

interface SmolExpected {
  readonly score: { readonly ids: number[]; readonly tokenLogProbs: number[]; readonly sum: number }[];
  readonly next: {
    readonly greedyIds: number[];
    readonly greedyText: string;
    readonly prompt: string;
    readonly ids: number[];
    readonly logSumExp: number;
    readonly entropyNats: number;
    readonly top: {
      readonly id: number;
      readonly text: string;
      readonly logit: number;
      readonly logProb: number;
    }[];
  }[];
}

const smollm = sharedPath("models/smollm2-135m-instruct");
describe.skipIf(!shared || !existsSync(`${smollm}/expected.json`))("SmolLM2-135M-Instruct", () => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await LanguageModel.load(`${smollm}/SmolLM2-135M-Instruct.Q4_1.gguf`);
  });
  afterAll(() => model.close());

  test("next-token distributions", async () => {
    const { next } = readJson(`${smollm}/expected.json`) as SmolExpected;
    for (const { prompt, ids, logSumExp, entropyNats, top } of next) {
      expect(model.encode(prompt)).toEqual(ids);
      const distribution = await model.next(prompt);
      expect(Math.abs((await distribution.logSumExp()) - logSumExp)).toBeLessThan(2e-3);
      expect(Math.abs((await distribution.entropy()) - entropyNats)).toBeLessThan(2e-3);
      for (const { id, logProb } of top)
        expect(Math.abs((await distribution.logProb(id)) - logProb)).toBeLessThan(2e-3);
    }
  });

  test("greedy text", async () => {
    const { next } = readJson(`${smollm}/expected.json`) as SmolExpected;
    for (const { ids, greedyIds } of next) {
      const options = { greedy: true, maxNewTokens: greedyIds.length };
      expect((await model.generateAll({ ids }, options)).ids).toEqual(greedyIds);
    }
  });

  test("score", async () => {
    const [{ ids, tokenLogProbs, sum }] = (readJson(`${smollm}/expected.json`) as SmolExpected).score;
    const score = await model.score({ ids });
    const logProbs = score.tokens.slice(1).map(({ logProb }) => logProb!);
    expect(logProbs.length).toBe(tokenLogProbs.length - 1);
    for (const [i, wanted] of tokenLogProbs.slice(1).entries())
      expect(Math.abs(logProbs[i] - wanted)).toBeLessThan(2e-3);
    expect(Math.abs(score.sum - sum)).toBeLessThan(0.05);
  });
});
