import { cpSync, existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { AbortError, type InputError } from "../../../src/errors.js";
import type { Device } from "../../../src/kernels/device.js";
import { openDevice } from "../../../src/kernels/open.js";
import { LanguageModel } from "../../../src/node.js";
import { train } from "../../../src/train/loop/train.js";
import {
  begin,
  corpus,
  expectNothingAside,
  freshOut,
  goOn,
  metricsOf,
  refused,
  settings,
  tree,
  wholeRun,
  write,
} from "./runs.js";

const whole = wholeRun();

describe("a run", () => {
  test("leaves checkpoints, the best model, metrics and a report", () => {
    expect(readdirSync(whole.out).sort()).toEqual([
      "best",
      "ids",
      "metrics.jsonl",
      "report.html",
      "step-000008",
      "step-000012",
      "train.json",
    ]);
    const metrics = metricsOf(whole.out);
    expect(metrics.map(({ type }) => type)).toEqual(
      [
        ["run"],
        ["step", "step", "step", "validation", "step", "step", "step", "validation", "sample", "sample"],
        ["step", "step", "step", "validation", "step", "step", "step", "validation", "sample", "sample"],
      ].flat(),
    );
    const losses = metrics.filter(({ type }) => type === "step").map(({ loss }) => loss as number);
    expect(losses[11]).toBeLessThan(losses[0] - 0.5);
    expect(metrics.filter(({ type }) => type === "sample").map(({ prompt }) => prompt)).toEqual([
      "the cat",
      "",
      "the cat",
      "",
    ]);
  });

  test("gives the same bytes again, on any number of threads, with an open device and through events", async () => {
    const out = freshOut();
    const device = await openDevice({ device: "wasm", threads: 3 });
    const steps: number[] = [];
    const before = device.memory;
    const result = await train({
      corpus,
      out,
      settings,
      device,
      onStep: (step) => steps.push(step),
    });
    expect(tree(out)).toEqual(whole.tree);
    expect(steps).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
    expect(result).toEqual({
      steps: 12,
      best: { step: 12, loss: metricsOf(out).findLast(({ type }) => type === "validation")!.loss },
      model: join(out, "best"),
      report: join(out, "report.html"),
    });
    // Weights, gradients and state (140 kB) are given back to a device that lives on.
    expect(device.memory).toBeLessThan(before + 20_000);
    await device.close();
  });

  test("best is the last checkpoint when the last validation was the best, and loads", async () => {
    for (const name of ["config.json", "model.safetensors", "tokenizer.json"])
      expect(whole.tree.get(`best/${name}`)).toBe(whole.tree.get(`step-000012/${name}`));
    const model = await LanguageModel.load(join(whole.out, "best"), { device: "reference" });
    expect(model.tokenizer!.encode("the cat")[0]).toBe(0);
    expect(model.info()).toMatchObject({ family: "llama", vocabSize: 280, tied: true, maxPositions: 16 });
    await model.close();
  });

  test("keeps as many checkpoints as asked, and counts epochs", async () => {
    const out = freshOut();
    const { steps: _, ...rest } = settings;
    await begin(out, { settings: { ...rest, epochs: 0.1, keep: 1, checkpointEvery: 1 } });
    const metrics = metricsOf(out);
    const steps = metrics[0].steps as number;
    expect(readdirSync(out).filter((name) => name.startsWith("step-"))).toEqual([
      `step-${String(steps).padStart(6, "0")}`,
    ]);
    const tokens = metrics.findLast(({ type }) => type === "step")!.tokens as number;
    let predicted = "";
    await goOn(out, {
      onNote: (text) => {
        predicted += text;
      },
    });
    const all = Number(/([\d,]+) tokens to train on/.exec(predicted)![1].replaceAll(",", ""));
    expect(tokens / all).toBeGreaterThanOrEqual(0.1);
    expect((tokens * (steps - 1)) / steps / all).toBeLessThan(0.1);
  });
});

test("takes of a preset's vocabulary what the text supports, says so, and goes on with it", async () => {
  const out = freshOut();
  const { vocabSize: _, ...others } = settings;
  const notes: string[] = [];
  await begin(out, { settings: others, onNote: (text) => notes.push(text) });
  const [, said] = /supports a vocabulary of (\d+) tokens, fewer than the 2,048 of the preset tiny/.exec(
    notes.join("\n"),
  )!;
  const plan = JSON.parse(readFileSync(join(out, "train.json"), "utf8"));
  expect(plan.settings.vocabSize).toBe(Number(said));
  const config = JSON.parse(readFileSync(join(out, "best", "config.json"), "utf8"));
  expect(config.vocab_size).toBe(Number(said));
  const ended = tree(out);
  rmSync(join(out, "step-000012"), { recursive: true });
  await goOn(out);
  expect(tree(out)).toEqual(ended);
});

describe("a run that is stopped", () => {
  test.each([1, 3, 4, 7, 11])("by its signal after step %i ends as if it had not been", async (last) => {
    const out = freshOut();
    const controller = new AbortController();
    const stops: [number, string | undefined][] = [];
    const stopped = begin(out, {
      signal: controller.signal,
      onStep: (step) => step === last && controller.abort(),
      onStopped: (...stop) => stops.push(stop),
    });
    await expect(stopped).rejects.toThrow(AbortError);
    const checkpoint = join(out, `step-${String(last).padStart(6, "0")}`);
    expect(stops).toEqual([[last, checkpoint]]);
    expect(existsSync(checkpoint)).toBe(true);
    expect(existsSync(join(out, "lock"))).toBe(false);
    await goOn(out, { threads: 2 });
    expect(tree(out)).toEqual(whole.tree);
  });

  test("before its first step, or in the middle of one", async () => {
    const out = freshOut();
    const controller = new AbortController();
    const stops: unknown[] = [];
    // The last note comes before the first step.
    const stopped = begin(out, {
      signal: controller.signal,
      onNote: (text) => /12 steps/.test(text) && setTimeout(() => controller.abort(), 1),
      onStopped: (...stop) => stops.push(stop),
    });
    await expect(stopped).rejects.toThrow(AbortError);
    expect(stops).toHaveLength(1);
    await goOn(out);
    expect(tree(out)).toEqual(whole.tree);
  });

  test("while it reads the text: nothing is left but a cache", async () => {
    const out = freshOut();
    await expect(begin(out, { signal: AbortSignal.abort() })).rejects.toThrow(AbortError);
    expect(existsSync(out)).toBe(false);
  });

  test("goes on with a text that stands elsewhere now", async () => {
    const out = freshOut();
    const text = write("moved.txt", readFileSync(corpus));
    const controller = new AbortController();
    const stopped = begin(out, {
      corpus: text,
      signal: controller.signal,
      onStep: (step) => step === 5 && controller.abort(),
    });
    await expect(stopped).rejects.toThrow(AbortError);
    rmSync(text);
    await goOn(out, { corpus });
    for (const [file, bytes] of whole.tree)
      if (/safetensors$/.test(file)) expect(tree(out).get(file), file).toBe(bytes);
    expect(JSON.parse(readFileSync(join(out, "train.json"), "utf8")).corpus).toBe(corpus);
  });

  test("that is finished has nothing left to do, and mends its report", async () => {
    const out = freshOut();
    cpSync(whole.out, out, { recursive: true });
    rmSync(join(out, "report.html"));
    const notes: string[] = [];
    const result = await goOn(out, { onNote: (text) => notes.push(text) });
    expect(notes[0]).toBe("12 steps done: nothing is left to do");
    expect(result.best.step).toBe(12);
    expect(tree(out)).toEqual(whole.tree);
  });

  test("with each optimizer and family goes on exactly", async () => {
    const kinds = [
      { optimizer: "muon", family: "gemma2", dropout: 0.2 },
      { optimizer: "lion", family: "gpt2", learningRate: 0.001 },
      { optimizer: "sgd", family: "phi", tied: false },
      { optimizer: "adamw", family: "gpt_neox" },
      { family: "qwen2", documents: "joined", dropout: 0.1, recompute: true },
    ] as const;
    for (const kind of kinds) {
      const given = { ...settings, heads: 1, ...kind, steps: 4, warmupSteps: 1 };
      const [apart, straight] = [freshOut(), freshOut()];
      await begin(straight, { settings: given });
      const controller = new AbortController();
      const signal = controller.signal;
      const stopped = begin(apart, {
        settings: given,
        signal,
        onStep: (step) => step === 2 && controller.abort(),
      });
      await expect(stopped).rejects.toThrow(AbortError);
      await goOn(apart, { threads: 2 });
      expect(tree(apart), kind.family).toEqual(tree(straight));
    }
  });
});

describe("a learning rate far too high", () => {
  test.each(["adamw", "muon", "lion", "sgd"] as const)(
    "stops %s with the step and the cause",
    async (optimizer) => {
      const out = freshOut();
      const high = { ...settings, optimizer, learningRate: 1e10, warmupSteps: 3, checkpointEvery: 1 };
      let message = "";
      const failed = begin(out, { settings: high }).catch((error: InputError) => {
        message = error.message;
        throw error;
      });
      await refused(failed, /^step \d+: .*(finite|NaN|Infinity|range).*lower learning rate/, out);
      // The checkpoint that it names is one from which the run goes on, up to the same step.
      const [, step, good] = /^step (\d+): .*\(the last good checkpoint: (.*)\)$/.exec(message)!;
      expect(good).toBe(join(out, `step-${String(Number(step) - 1).padStart(6, "0")}`));
      await refused(goOn(out), new RegExp(`^step ${step}: .*lower learning rate`), out);
    },
  );
});

test("a device that is lost leaves a folder that can be resumed", async () => {
  const out = freshOut();
  const device: Device = await openDevice({ device: "wasm", threads: 2 });
  const lost = train({ corpus, out, settings, device, onStep: (step) => step === 6 && void device.close() });
  await expect(lost).rejects.toThrow();
  expect(existsSync(join(out, "lock"))).toBe(false);
  await goOn(out);
  expect(tree(out)).toEqual(whole.tree);
});

test("nothing written aside is left in any run's folder", expectNothingAside);
