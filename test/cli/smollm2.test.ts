import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { shared, sharedPath } from "../shared.js";
import { built, type GenerateJson, lmhead, lmheadJson, type NextJson, type ScoreJson } from "./process.js";

interface Expected {
  readonly next: readonly {
    readonly prompt: string;
    readonly ids: number[];
    readonly logSumExp: number;
    readonly entropyNats: number;
    readonly top: readonly {
      readonly id: number;
      readonly text: string;
      readonly logit: number;
      readonly logProb: number;
    }[];
    readonly greedyIds: number[];
    readonly greedyText: string;
  }[];
  readonly score: readonly {
    readonly text: string;
    readonly ids: number[];
    readonly tokenLogProbs: (number | null)[];
    readonly sum: number;
    readonly perplexity: number;
  }[];
  readonly tokenize: readonly { readonly text: string; readonly ids: number[] }[];
}

/** The difference that DESIGN allows between this engine and the float32 reference. */
const within = 2e-3;

describe.runIf(built && shared)("the command line on SmolLM2-135M", () => {
  const folder = sharedPath("models/smollm2-135m-instruct");
  const model = ["--model", `${folder}/SmolLM2-135M-Instruct.Q4_1.gguf`];
  const expected: Expected = shared ? JSON.parse(readFileSync(`${folder}/expected.json`, "utf8")) : {};

  it.each(expected.next ?? [])("next: $prompt", async ({ prompt, ids, logSumExp, entropyNats, top }) => {
    const of = top[0].text;
    const answer = await lmheadJson<NextJson>([
      "next",
      prompt,
      ...model,
      "--top",
      String(top.length),
      "--of",
      of,
    ]);
    expect(answer.promptIds).toEqual(ids);
    expect(Math.abs(answer.logSumExp - logSumExp)).toBeLessThan(within);
    expect(Math.abs(answer.entropy - entropyNats)).toBeLessThan(within);
    expect(answer.top).toHaveLength(top.length);
    const found = new Map(answer.top.map((row) => [row.id, row]));
    for (const { id, text, logit, logProb } of top) {
      const row = found.get(id);
      expect(row?.token).toBe(text);
      // A logit alone may shift with all others: what a person reads is the probability.
      expect(Math.abs(row!.logit - logit)).toBeLessThan(2 * within);
      expect(Math.abs(row!.logProb! - logProb)).toBeLessThan(within);
      expect(row!.prob).toBeCloseTo(Math.exp(row!.logProb!), 9);
    }
    expect(answer.of[0]).toMatchObject({ text: of, rank: 1, logProb: answer.top[0].logProb });
  });

  it.each(expected.next ?? [])(
    "generate --greedy: $prompt",
    async ({ prompt, ids, greedyIds, greedyText }) => {
      const count = String(greedyIds.length);
      const args = ["generate", prompt, ...model, "--greedy", "--ignore-eos", "--max-new-tokens", count];
      const { promptIds, outputs, timing } = await lmheadJson<GenerateJson>(args);
      expect(promptIds).toEqual(ids);
      expect(outputs).toHaveLength(1);
      // The expected text shows the end token; here it is no part of the text.
      const text = greedyText.replace("<|im_end|>", "");
      expect(outputs[0]).toMatchObject({ ids: greedyIds, text, finishReason: "length" });
      expect(outputs[0].logProbs).toHaveLength(greedyIds.length);
      expect(timing.decodeTokens).toBe(greedyIds.length - 1);
      for (const ms of [timing.loadMs, timing.prefillMs, timing.decodeMs]) expect(ms).toBeGreaterThan(0);
    },
  );

  it.each(expected.score ?? [])("score $#", async ({ text, ids, tokenLogProbs, sum, perplexity }) => {
    const answer = await lmheadJson<ScoreJson>(["score", ...model], { input: text });
    expect(answer.tokens.map(({ id }) => id)).toEqual(ids);
    expect(answer.count).toBe(ids.length - 1);
    expect(answer.tokens[0]).toMatchObject({ logProb: null, rank: null });
    for (const [i, token] of answer.tokens.entries())
      if (i > 0) expect(Math.abs(token.logProb! - tokenLogProbs[i]!)).toBeLessThan(within);
    expect(Math.abs(answer.sum - sum)).toBeLessThan(within * ids.length);
    expect(answer.perplexity / perplexity).toBeCloseTo(1, 2);
    expect(answer.tokens.map(({ text }) => text).join("")).toBe(text);
  });

  it.each(expected.tokenize ?? [])("tokenize: $text", async ({ text, ids }) => {
    const answer = await lmheadJson<{ ids: number[]; tokens: string[] }>(["tokenize", text, ...model]);
    expect(answer.ids).toEqual(ids);
    expect(answer.tokens).toHaveLength(ids.length);
  });

  describe("Ctrl-C", () => {
    const long = [
      "generate",
      "Once upon a time",
      ...model,
      "--greedy",
      "--ignore-eos",
      "--max-new-tokens",
      "2000",
    ];

    it("a text ends where it is", async () => {
      const { code, stdout, stderr } = await lmhead(long, {
        onOutput: (text, child) => text.length > 20 && child.kill("SIGINT"),
      });
      expect(stderr).toBe("");
      expect(code).toBe(130);
      expect(stdout).toMatch(/^.{20}.*\n$/s);
    });

    it("JSON says abort, and holds what was generated", async () => {
      const { code, stdout } = await lmhead([...long, "--json"], { interruptAfterMs: 5000 });
      expect(code).toBe(130);
      const { outputs, promptIds }: GenerateJson = JSON.parse(stdout);
      expect(promptIds.length).toBeGreaterThan(0);
      expect(outputs[0].finishReason).toBe("abort");
      expect(outputs[0].ids).toHaveLength(outputs[0].logProbs.length);
    });
  });
});
