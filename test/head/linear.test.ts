import { readdirSync, readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { Distribution } from "../../src/head/distribution.js";
import { LinearHead } from "../../src/head/linear.js";
import { ProcessedDistribution } from "../../src/sampling/processed.js";
import { devices } from "../devices.js";
import { distance, floats } from "../kernels/random.js";
import { shared, sharedPath } from "../shared.js";
import { readTensors } from "../tensors.js";

describe.each(devices)("the linear head: %s", async (_, open) => {
  const device = await open();
  afterAll(() => device.close());

  it("answers just what was asked, all in one pass, raw", async () => {
    const head = await LinearHead.fromArrays({
      weight: Float32Array.of(1, 0, 0, 1, 1, 1),
      vocabSize: 3,
      hiddenSize: 2,
      device,
    });
    const answer = await head.ask(Float32Array.of(1, 2, 0, 0), {
      topK: 2,
      logProbs: [0],
      rank: [[2], [1]],
      entropy: true,
    });
    expect(Object.keys(answer).sort()).toEqual(["entropy", "logProbs", "rank", "topK"]);
    const sum = Math.log(Math.exp(1) + Math.exp(2) + Math.exp(3));
    expect(answer.logProbs[0][0]).toBeCloseTo(1 - sum, 6);
    expect(Array.from(answer.topK[0].ids)).toEqual([2, 1]);
    expect(Array.from(answer.topK[1].ids)).toEqual([0, 1]);
    expect(answer.rank.map((r) => r[0])).toEqual([1, 1]);
    expect(answer.entropy[1]).toBeCloseTo(Math.log(3), 6);
    await expect(head.ask(Float32Array.of(1), { topK: 1 })).rejects.toThrow(/whole rows of 2/);
    await expect(head.ask(Float32Array.of(1, 2), { topK: 4 })).rejects.toThrow(/from 1 to 3/);
    await expect(head.ask(Float32Array.of(1, 2), {})).rejects.toThrow(/nothing was asked/);
    await expect(head.ask(Float32Array.of(1, 2), { logProbs: [3] })).rejects.toThrow(
      /outside the vocabulary/,
    );
    // @ts-expect-error an unknown question
    await expect(head.ask(Float32Array.of(1, 2), { topk: 1 })).rejects.toThrow(/unknown option "topk"/);
  });

  it("random heads are the same for the same seed, within nn.Linear's bounds", async () => {
    const options = { vocabSize: 50, hiddenSize: 16, device };
    const hidden = floats(16, 1);
    const asks = await Promise.all(
      [1, 1, 2].map(
        async (seed) =>
          (await (await LinearHead.random({ ...options, seed })).ask(hidden, { logits: true })).logits,
      ),
    );
    expect(asks[0]).toEqual(asks[1]);
    expect(asks[0]).not.toEqual(asks[2]);
    expect(Math.max(...asks[0].map(Math.abs))).toBeLessThan((16 + 1) / 4);
  });

  it("a distribution answers lazily, raw or processed", async () => {
    const head = await LinearHead.random({ vocabSize: 30, hiddenSize: 8, seed: 4, device });
    const raw = new Distribution(head, floats(8, 2, 3), {
      text: {
        encode: (t) => [...t].map((c) => c.charCodeAt(0) - 97),
        tokenText: (id) => String.fromCharCode(97 + id),
      },
    });
    const top = await raw.top(30);
    expect(top.reduce((sum, { prob }) => sum + prob, 0)).toBeCloseTo(1, 6);
    expect(await raw.rank(top[3].id)).toBe(4);
    expect(await raw.logProb(top[0].token ?? "")).toBeCloseTo(top[0].logProb, 6);
    await expect(raw.rank("ab")).rejects.toThrow(/is 2 tokens/);
    const processed = await ProcessedDistribution.of(raw, { topK: 3, temperature: 0.5 });
    const kept = await processed.top(10);
    expect(kept.map(({ id }) => id)).toEqual(top.slice(0, 3).map(({ id }) => id));
    expect(kept.reduce((sum, { prob }) => sum + prob, 0)).toBeCloseTo(1, 6);
    expect(await processed.logProb(top[5].id)).toBe(-Infinity);
    expect(kept.map(({ id }) => id)).toContain(await processed.sample({ seed: 3 }));
  });

  it.skipIf(!shared)("rows at the edges of float32 (cases/heads/extremes)", async () => {
    const folder = sharedPath("cases/heads/extremes");
    const expected = JSON.parse(readFileSync(`${folder}/case.json`, "utf8")) as {
      V: number;
      rows: string[];
      top8_ids: number[][];
      rank_ids: number[];
      ranks: number[][];
    };
    const tensors = readTensors(`${folder}/tensors.safetensors`);
    const take = (name: string, row: number, width: number) =>
      (tensors.get(name) ?? new Float32Array()).subarray(row * width, (row + 1) * width);
    const { V } = expected;
    for (const [row, name] of expected.rows.entries()) {
      const head = await LinearHead.fromArrays({
        weight: new Float32Array(V),
        vocabSize: V,
        hiddenSize: 1,
        bias: take("logits", row, V).slice(),
        device,
      });
      const ids = Array.from({ length: V }, (_, i) => i);
      const answer = await head.ask(Float32Array.of(1), {
        topK: 8,
        logProbs: ids,
        logSumExp: true,
        entropy: true,
        rank: expected.rank_ids,
      });
      expect(Array.from(answer.topK[0].ids), name).toEqual(expected.top8_ids[row]);
      expect(
        Array.from(answer.rank[0], (r) => r - 1),
        name,
      ).toEqual(expected.ranks[row]);
      expect(distance(answer.logSumExp, take("logsumexp", row, 1)), name).toBeLessThan(1e-5);
      // Below float32's range the file says -Infinity, while float64 still has a number.
      take("logprobs", row, V).forEach((want, i) => {
        if (want === -Infinity) expect(answer.logProbs[0][i]).toBeLessThan(-1e30);
        else expect(Math.abs(answer.logProbs[0][i] - want)).toBeLessThanOrEqual(1e-6 + 1e-5 * Math.abs(want));
      });
      // Two logits tie at 3e38: the entropy is ln 2, which the file lost to rounding (3e38 + ln 2 = 3e38).
      const entropy = name.startsWith("near the f32 limits") ? Math.LN2 : take("entropy", row, 1)[0];
      expect(Math.abs(answer.entropy[0] - entropy), name).toBeLessThan(1e-5);
    }
  });

  const families = shared
    ? readdirSync(sharedPath("cases/hf")).filter(
        (name) => !["bert", "roberta", "t5", "marian", "llama", "qwen2", "gpt_neox"].includes(name),
      )
    : [];
  it.skipIf(!shared)("the heads of transformers' models on their own hidden states", async () => {
    for (const family of families) {
      const folder = sharedPath(`cases/hf/${family}`);
      const weights = readTensors(`${folder}/model.safetensors`);
      const expected = readTensors(`${folder}/expected.safetensors`);
      const config = JSON.parse(readFileSync(`${folder}/config.json`, "utf8")) as {
        final_logit_softcapping?: number;
      };
      const weight =
        ["lm_head.weight", "transformer.wte.weight", "wte.weight", "model.embed_tokens.weight"]
          .map((n) => weights.get(n))
          .find(Boolean) ?? new Float32Array();
      const D = 48;
      const head = await LinearHead.fromArrays({
        weight,
        vocabSize: weight.length / D,
        hiddenSize: D,
        bias: weights.get("lm_head.bias"),
        softcap: config.final_logit_softcapping,
        device,
      });
      const { logits } = await head.ask(expected.get("seq2.hidden") ?? new Float32Array(), { logits: true });
      expect(distance(logits, expected.get("seq2.logits") ?? []), family).toBeLessThan(1e-5);
    }
    expect(families.length).toBeGreaterThan(3);
  });
});
