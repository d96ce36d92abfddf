import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ModelInfo } from "../../src/node.js";
import { writeTinyModel } from "./model.js";
import { built, type GenerateJson, lmhead, lmheadJson, type NextJson, type ScoreJson } from "./process.js";

/** A whole model of random weights, so that a clone alone tests the contract. */
describe.runIf(built)("the command line's contract", () => {
  let folder: string;
  let model: string[];
  let V: number;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "lmhead-cli-"));
    const path = join(folder, "model");
    await writeTinyModel(path);
    model = ["--model", path];
    V = (await lmheadJson<ModelInfo>(["info", ...model])).vocabSize;
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const close = (a: number, b: number): void =>
    expect(Math.abs(a - b)).toBeLessThan(1e-4 + 1e-4 * Math.abs(b));

  describe("next", () => {
    it("--top V is the whole distribution", async () => {
      const { logSumExp, entropy, top, of } = await lmheadJson<NextJson>([
        "next",
        "hello",
        ...model,
        "--top",
        String(V),
      ]);
      expect(top).toHaveLength(V);
      expect(new Set(top.map(({ id }) => id)).size).toBe(V);
      expect(of).toEqual([]);
      for (const [i, { logit, logProb, prob }] of top.entries()) {
        if (i > 0) expect(logit).toBeLessThanOrEqual(top[i - 1].logit);
        close(logProb!, logit - logSumExp);
        close(prob, Math.exp(logProb!));
      }
      close(
        top.reduce((sum, { prob }) => sum + prob, 0),
        1,
      );
      close(-top.reduce((sum, { prob, logProb }) => sum + prob * logProb!, 0), entropy);
    });

    it("has the fields of the contract and no others", async () => {
      const answer = await lmheadJson<NextJson>(["next", "hello", ...model, "--of", "a"]);
      expect(Object.keys(answer)).toEqual(["promptIds", "logSumExp", "entropy", "top", "of"]);
      expect(Object.keys(answer.top[0])).toEqual(["id", "token", "logit", "logProb", "prob"]);
      expect(Object.keys(answer.of[0])).toEqual(["text", "ids", "logProb", "rank"]);
      expect(answer.top).toHaveLength(10);
    });

    it("--of: a token has a rank, a longer text the sum of its tokens", async () => {
      const args = ["next", "hello", ...model, "--top", String(V), "--of", "a", "--of", "abc"];
      const { promptIds, top, of } = await lmheadJson<NextJson>(args);
      const [one, several] = of;
      expect(one).toMatchObject({ text: "a", rank: 1 + top.findIndex(({ id }) => id === one.ids[0]) });
      close(one.logProb, top[one.rank! - 1].logProb!);
      expect(several.ids.length).toBeGreaterThan(1);
      expect(several.rank).toBeNull();
      let sum = 0;
      for (const [i, id] of several.ids.entries()) {
        const ids = [...promptIds, ...several.ids.slice(0, i)].join(" ");
        const step = await lmheadJson<NextJson>(["next", "--ids", ids, ...model, "--top", String(V)]);
        sum += step.top.find((row) => row.id === id)!.logProb!;
      }
      close(several.logProb, sum);
    });

    it("--ids adds nothing", async () => {
      const { promptIds } = await lmheadJson<NextJson>(["next", "--ids", "5, 6 7", ...model]);
      expect(promptIds).toEqual([5, 6, 7]);
    });

    it("sampling options add processed fields and leave the raw ones", async () => {
      const raw = await lmheadJson<NextJson>(["next", "hello", ...model]);
      const both = await lmheadJson<NextJson>([
        "next",
        "hello",
        ...model,
        "--temperature",
        "0.5",
        "--top-k",
        "3",
      ]);
      expect(both.top.map(({ id, logProb }) => ({ id, logProb }))).toEqual(
        raw.top.map(({ id, logProb }) => ({ id, logProb })),
      );
      close(
        both.top.reduce((sum, row) => sum + row.processedProb!, 0),
        1,
      );
      const kept = both.top.slice(0, 3);
      close(kept[0].processedLogProb! - kept[1].processedLogProb!, 2 * (kept[0].logit - kept[1].logit));
      expect(both.top[3]).toMatchObject({ processedLogProb: null, processedProb: 0 });
    });

    it("prints a table with bars, and no colour into a pipe", async () => {
      const { code, stdout, stderr } = await lmhead(["next", "hello", ...model, "--top", "4", "--of", "a"]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      const lines = stdout.split("\n");
      expect(lines[0]).toMatch(/^rank +id +token +logprob +prob$/);
      expect(lines[1]).toMatch(/^ +1 .*█/);
      expect(stdout).not.toContain("\u001b");
      expect(stdout).toMatch(/log-sum-exp -?\d+\.\d{4}, entropy \d+\.\d{4} nats\n$/);
    });

    it("--explain shows six steps with this prompt's numbers", async () => {
      const { stdout, code } = await lmhead(["next", "hello", ...model, "--explain"]);
      expect(code).toBe(0);
      const { promptIds, logSumExp, top } = await lmheadJson<NextJson>(["next", "hello", ...model]);
      const { hiddenSize: D, rows } = await lmheadJson<ModelInfo>(["info", ...model]);
      for (const n of [1, 2, 3, 4, 5, 6]) expect(stdout).toMatch(new RegExp(`^${n}\\. `, "m"));
      const T = promptIds.length;
      for (const shape of [
        `ids [T=${T}]`,
        `[V=${rows}, D=${D}] → vectors [T=${T}, D=${D}]`,
        `hidden [T=${T}, D=${D}]`,
        `logits [V=${V}]`,
        `probabilities [V=${V}]`,
      ])
        expect(stdout).toContain(shape);
      expect(stdout).toContain(`log Σ exp(logit) = ${logSumExp.toFixed(4)}`);
      expect(stdout).toContain(`largest ${top[0].logit.toFixed(4)}`);
      expect(stdout).toContain("add up to 1.000000");
    });
  });

  describe("generate", () => {
    const run = (...flags: string[]): Promise<GenerateJson> =>
      lmheadJson<GenerateJson>([
        "generate",
        "hello",
        ...model,
        "--ignore-eos",
        "--max-new-tokens",
        "12",
        ...flags,
      ]);

    it("has the fields of the contract", async () => {
      const answer = await run("--greedy");
      expect(Object.keys(answer)).toEqual(["promptIds", "outputs", "timing"]);
      expect(Object.keys(answer.outputs[0])).toEqual(["ids", "text", "logProbs", "finishReason"]);
      expect(Object.keys(answer.timing)).toEqual(["loadMs", "prefillMs", "decodeMs", "decodeTokens"]);
      expect(answer.outputs[0]).toMatchObject({ finishReason: "length" });
      expect(answer.outputs[0].ids).toHaveLength(12);
      expect(answer.timing.decodeTokens).toBe(11);
    });

    it("greedy is the likeliest at each step, with its raw log-probability", async () => {
      const { promptIds, outputs } = await run("--greedy", "--max-new-tokens", "3");
      for (const [i, id] of outputs[0].ids.entries()) {
        const ids = [...promptIds, ...outputs[0].ids.slice(0, i)].join(" ");
        const { top } = await lmheadJson<NextJson>(["next", "--ids", ids, ...model, "--top", String(V)]);
        expect(top[0].id).toBe(id);
        close(outputs[0].logProbs[i], top[0].logProb!);
      }
    });

    it("the same seed gives the same text, whatever the threads; another seed another", async () => {
      const one = await run("--seed", "7", "--temperature", "1.5", "--threads", "1");
      const two = await run("--seed", "7", "--temperature", "1.5", "--threads", "2");
      const other = await run("--seed", "8", "--temperature", "1.5", "--threads", "2");
      expect(two.outputs).toEqual(one.outputs);
      expect(other.outputs[0].ids).not.toEqual(one.outputs[0].ids);
    });

    it("streams the text alone into a pipe", async () => {
      const { outputs } = await run("--greedy");
      const args = ["generate", "hello", ...model, "--ignore-eos", "--max-new-tokens", "12", "--greedy"];
      expect(await lmhead(args)).toEqual({ code: 0, stdout: `${outputs[0].text}\n`, stderr: "" });
    });

    it("--alternatives lists the likeliest of each step", async () => {
      const { outputs } = await run("--greedy", "--alternatives", "2");
      expect(outputs[0].alternatives).toHaveLength(12);
      expect(outputs[0].alternatives![0]).toHaveLength(2);
      expect(outputs[0].alternatives![0][0]).toMatchObject({
        id: outputs[0].ids[0],
        logProb: outputs[0].logProbs[0],
      });
    });

    it("a reader that leaves is no error", async () => {
      const { code, stderr } = await lmhead(["next", "hello", ...model, "--top", String(V), "--json"], {
        onOutput: (_, child) => child.stdout?.destroy(),
      });
      expect(stderr).toBe("");
      expect(code).toBe(0);
    });
  });

  describe("score", () => {
    it("is the sum of its tokens, from an argument, a file and standard input", async () => {
      const text = "hello, world";
      const file = join(folder, "text.txt");
      writeFileSync(file, text);
      const answer = await lmheadJson<ScoreJson>(["score", text, ...model]);
      expect(Object.keys(answer)).toEqual(["tokens", "sum", "count", "perplexity", "bitsPerByte"]);
      expect(answer.tokens[0]).toMatchObject({ logProb: null, rank: null });
      close(
        answer.tokens.reduce((sum, { logProb }) => sum + (logProb ?? 0), 0),
        answer.sum,
      );
      expect(answer.count).toBe(answer.tokens.length - 1);
      close(answer.perplexity, Math.exp(-answer.sum / answer.count));
      expect(await lmheadJson<ScoreJson>(["score", "--file", file, ...model])).toEqual(answer);
      expect(await lmheadJson<ScoreJson>(["score", ...model], { input: text })).toEqual(answer);
    });

    it("reads by windows of the size and stride asked for", async () => {
      const text = "hello, world";
      const windows = ["--window", "4", "--stride", "1"];
      const whole = await lmheadJson<ScoreJson>(["score", text, ...model]);
      const small = await lmheadJson<ScoreJson>(["score", text, ...windows, ...model]);
      expect(small.count).toBe(whole.count);
      expect(small.tokens.slice(0, 4)).toEqual(whole.tokens.slice(0, 4));
      // The last token given the three before it.
      const ids = small.tokens.slice(-4).map(({ id }) => id);
      const last = await lmheadJson<ScoreJson>(["score", "--ids", ids.join(" "), ...model]);
      close(small.tokens.at(-1)!.logProb!, last.tokens[3].logProb!);
      expect(small.tokens.at(-1)!.logProb).not.toBe(whole.tokens.at(-1)!.logProb);
    });

    it("prints tokens and a summary", async () => {
      const { stdout, code } = await lmhead(["score", "hello world", ...model]);
      expect(code).toBe(0);
      expect(stdout).toMatch(
        /tokens predicted, sum -\d+\.\d{4} nats, perplexity \d+\.\d{4}, \d+\.\d{4} bits per byte\n$/,
      );
      expect(stdout).not.toContain("\u001b");
    });
  });

  it("tokenize and --decode", async () => {
    const { ids, tokens } = await lmheadJson<{ ids: number[]; tokens: string[] }>([
      "tokenize",
      "hello 日本",
      ...model,
    ]);
    expect(tokens).toHaveLength(ids.length);
    const back = await lmheadJson<{ text: string }>(["tokenize", "--decode", ids.join(" "), ...model]);
    expect(back).toMatchObject({ ids, tokens, text: "hello 日本" });
    const { stdout } = await lmhead(["tokenize", "--decode", ids.join(" "), ...model]);
    expect(stdout).toBe("hello 日本\n");
  });

  it("info", async () => {
    const info = await lmheadJson<ModelInfo>(["info", ...model]);
    expect(info.parameters).toBeGreaterThan(info.vocabularyParameters);
    // What docs/cli.md calls a contract. This model has no begin token.
    const docs = readFileSync(new URL("../../docs/cli.md", import.meta.url), "utf8");
    const block = /^### info\n+```\n([^`]*)```/m.exec(docs)![1].replace(/\[\{.*?\}\]/, "");
    const documented = block.split(",").map((part) => /"(\w+)"/.exec(part)![1]);
    expect(Object.keys(info)).toEqual(documented.filter((name) => name !== "bosId"));
    expect(Object.keys(info.formats[0])).toEqual(["type", "tensors", "bytes"]);
    const { stdout, code } = await lmhead(["info", ...model]);
    expect(code).toBe(0);
    for (const line of ["architecture", "vocabulary V", "parameters", "tied", "head", "memory", "stored as"])
      expect(stdout).toMatch(new RegExp(`^${line} `, "m"));
  });
});
