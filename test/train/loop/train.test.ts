import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { AbortError, InputError } from "../../../src/errors.js";
import type { Device } from "../../../src/kernels/device.js";
import { openDevice } from "../../../src/kernels/open.js";
import { LanguageModel } from "../../../src/node.js";
import { type TrainOptions, train } from "../../../src/train/loop/train.js";
import { corpus, documents, folder, freshOut, metricsOf, settings, tree, write } from "./runs.js";

const begin = (out: string, more: Partial<TrainOptions> = {}) =>
  train({ corpus, out, settings, device: "wasm", threads: 1, ...more });
const goOn = (out: string, more: Partial<TrainOptions> = {}) =>
  train({ out, resume: true, device: "wasm", threads: 1, ...more });

/** Refused with one line, and without a lock left. */
async function refused(promise: Promise<unknown>, message: RegExp, out?: string): Promise<void> {
  const error: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(InputError);
  expect((error as Error).message).toMatch(message);
  expect((error as Error).message).not.toMatch(/\n|undefined|NaN at|\[object/);
  if (out) expect(existsSync(join(out, "lock"))).toBe(false);
}

/** What a run leaves that never stopped. */
let whole: Map<string, string>;
let wholeOut: string;
beforeAll(async () => {
  wholeOut = freshOut();
  await begin(wholeOut);
  whole = tree(wholeOut);
});

describe("a run", () => {
  test("leaves checkpoints, the best model, metrics and a report", () => {
    expect(readdirSync(wholeOut).sort()).toEqual([
      "best",
      "ids",
      "metrics.jsonl",
      "report.html",
      "step-000008",
      "step-000012",
      "train.json",
    ]);
    const metrics = metricsOf(wholeOut);
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
    expect(tree(out)).toEqual(whole);
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
      expect(whole.get(`best/${name}`)).toBe(whole.get(`step-000012/${name}`));
    const model = await LanguageModel.load(join(wholeOut, "best"), { device: "reference" });
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
    expect(tree(out)).toEqual(whole);
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
    expect(tree(out)).toEqual(whole);
  });

  test("while it reads the text: nothing is left but a cache", async () => {
    const out = freshOut();
    await expect(begin(out, { signal: AbortSignal.abort() })).rejects.toThrow(AbortError);
    expect(existsSync(out)).toBe(false);
  });

  test("that is finished has nothing left to do, and mends its report", async () => {
    const out = freshOut();
    cpSync(wholeOut, out, { recursive: true });
    rmSync(join(out, "report.html"));
    const notes: string[] = [];
    const result = await goOn(out, { onNote: (text) => notes.push(text) });
    expect(notes[0]).toBe("12 steps done: nothing is left to do");
    expect(result.best.step).toBe(12);
    expect(tree(out)).toEqual(whole);
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

describe("damage", () => {
  const checkpoint = (out: string, step: number) => join(out, `step-${String(step).padStart(6, "0")}`);
  let out: string;
  const copy = () => {
    out = freshOut();
    cpSync(wholeOut, out, { recursive: true });
  };
  const cut = (path: string) => truncateSync(path, readFileSync(path).length - 4);
  const alter = (path: string) => {
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(path, bytes);
  };

  test.each([
    ["optimizer.safetensors", cut],
    ["optimizer.safetensors", alter],
    ["model.safetensors", cut],
    ["model.safetensors", alter],
    ["config.json", alter],
    ["tokenizer.json", alter],
    ["tokenizer.json", rmSync],
    ["training.json", cut],
    ["training.json", rmSync],
  ])("of the newest checkpoint's %s: the one before serves, and is named", async (name, damage) => {
    copy();
    damage(join(checkpoint(out, 12), name));
    const notes: string[] = [];
    await goOn(out, { onNote: (text) => notes.push(text) });
    expect(notes[0]).toContain(checkpoint(out, 12));
    expect(notes[0]).toContain(name);
    expect(notes[0]).toContain("going back to the checkpoint before");
    expect(notes[1]).toContain(`going on after step 8, from ${checkpoint(out, 8)}`);
    expect(tree(out)).toEqual(whole);
  });

  test("of a manifest's numbers", async () => {
    for (const field of [
      { step: 8 },
      { step: "12" },
      { metricsBytes: -1 },
      { files: {} },
      { best: 3 },
      { version: 2 },
    ]) {
      copy();
      const path = join(checkpoint(out, 12), "training.json");
      writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...field }));
      const notes: string[] = [];
      await goOn(out, { onNote: (text) => notes.push(text) });
      expect(notes[0]).toMatch(/training\.json is missing or damaged/);
    }
    expect(tree(out)).toEqual(whole);
  });

  test("of all checkpoints is an error, and changes nothing", async () => {
    copy();
    cut(join(checkpoint(out, 12), "optimizer.safetensors"));
    alter(join(checkpoint(out, 8), "model.safetensors"));
    const before = tree(out);
    await refused(goOn(out), /no checkpoint is whole .*step-000012.*step-000008.*begin anew/, out);
    expect(tree(out)).toEqual(before);
  });

  test("of the metrics is an error: without them a run can't be told", async () => {
    copy();
    rmSync(join(out, "metrics.jsonl"));
    await refused(goOn(out), /no checkpoint is whole .*metrics\.jsonl is shorter/, out);
  });

  test("of the newest while fewer are kept: the one just saved stays", async () => {
    copy();
    const settings = JSON.parse(readFileSync(join(out, "train.json"), "utf8"));
    settings.settings.keep = 1;
    writeFileSync(join(out, "train.json"), JSON.stringify(settings));
    cut(join(checkpoint(out, 12), "optimizer.safetensors"));
    const controller = new AbortController();
    const stopped = goOn(out, {
      signal: controller.signal,
      onStep: (step) => step === 10 && controller.abort(),
    });
    await expect(stopped).rejects.toThrow(AbortError);
    expect(readdirSync(out).filter((name) => name.startsWith("step-"))).toContain("step-000010");
    await goOn(out);
    expect(readdirSync(out).filter((name) => name.startsWith("step-"))).toEqual(["step-000012"]);
  });

  test("of the cache of ids: it is made anew", async () => {
    copy();
    const [ids] = readdirSync(join(out, "ids"));
    alter(join(out, "ids", ids));
    rmSync(checkpoint(out, 12), { recursive: true });
    await goOn(out);
    expect(tree(out)).toEqual(whole);
  });

  test("of train.json", async () => {
    copy();
    const path = join(out, "train.json");
    const plan = JSON.parse(readFileSync(path, "utf8"));
    const bent: [unknown, RegExp][] = [
      [{ ...plan, version: 7 }, /version 7/],
      [{ ...plan, corpus: 1 }, /is damaged/],
      [{ ...plan, settings: { ...plan.settings, steps: 0 } }, /settings: steps: expected/],
      [{ ...plan, settings: { ...plan.settings, more: 0 } }, /unknown setting "more"/],
      [{ ...plan, settings: { ...plan.settings, maxNorm: undefined } }, /maxNorm is missing/],
    ];
    for (const [value, message] of bent) {
      writeFileSync(path, JSON.stringify(value));
      await refused(goOn(out), message, out);
    }
    writeFileSync(path, "{");
    await refused(goOn(out), /train\.json: is damaged/, out);
  });
});

describe("a folder", () => {
  test("that holds a run is not begun again", () =>
    refused(begin(wholeOut), /holds a run already; go on with it by --resume/, wholeOut));

  test("without a run is not resumed, nor made", async () => {
    const out = freshOut();
    await refused(goOn(out), /holds no run to resume/);
    expect(existsSync(out)).toBe(false);
  });

  test("with something that training would replace is left alone", async () => {
    const out = freshOut();
    mkdirSync(join(out, "best"), { recursive: true });
    writeFileSync(join(out, "best", "photo"), "mine");
    await refused(begin(out), /holds a best that is of no run/, out);
    expect(tree(out)).toEqual(new Map([["best/photo", "mine"]]));
  });

  test("keeps what is no run's, whatever it ends with", async () => {
    const out = freshOut();
    mkdirSync(out);
    for (const name of ["notes.new", "notes.old", "best.txt.old"]) writeFileSync(join(out, name), name);
    await begin(out, { settings: { ...settings, steps: 1, warmupSteps: 0 } });
    for (const name of ["notes.new", "notes.old", "best.txt.old"])
      expect(readFileSync(join(out, name), "utf8")).toBe(name);
  });

  test("inside the corpus is refused: its metrics would be text", async () => {
    const texts = freshOut();
    mkdirSync(texts);
    writeFileSync(join(texts, "a.txt"), documents(20).join("\n\n"));
    await refused(begin(join(texts, "run"), { corpus: texts }), /would become text to train on/);
    await refused(
      begin(join(texts, "run"), { settings: { ...settings, validationCorpus: texts } }),
      /would become text to train on/,
    );
    expect(readdirSync(texts)).toEqual(["a.txt"]);
  });

  test("that another run has taken is refused, and left as it is", async () => {
    const out = freshOut();
    let second: Promise<void> | undefined;
    await begin(out, {
      onStep: () => {
        second ??= refused(goOn(out), /process \d+ on .* trains into it/);
      },
    });
    await second;
    expect(tree(out)).toEqual(whole);
  });

  test("under a file is refused", async () => {
    await refused(begin(corpus), /a file stands there/);
    await refused(begin(join(corpus, "run")), /a file stands there/);
  });

  test("with the lock of a dead process is taken over", async () => {
    const out = freshOut();
    mkdirSync(out);
    // No process has this number: Linux gives none above 2^22.
    writeFileSync(join(out, "lock"), JSON.stringify({ pid: 2 ** 22 + 1, host: hostname() }));
    await begin(out);
    expect(tree(out)).toEqual(whole);
  });
});

describe("texts", () => {
  const bad = (name: string, content: string | Uint8Array, message: RegExp, more = {}) =>
    [name, content, message, more] as const;
  test.each([
    bad("empty.txt", "", /empty\.txt: the corpus is empty/),
    bad("white.txt", " \n\n \t", /the corpus is empty/),
    bad("latin1.txt", Uint8Array.of(97, 98, 0xe9, 99), /latin1\.txt: byte 2 is not UTF-8/),
    bad("tiny.txt", "the cat", /supports a vocabulary of \d+ tokens, not 280: set vocabSize to at most/),
    bad("a.jsonl", '{"body": "x"}', /line 1: has no field "text"; its fields are body/),
    bad("a.csv", "a,b", /expected a file whose name ends in \.txt or \.jsonl/),
    bad("long.txt", documents(9).join("\n\n"), /training: .*need 5001 tokens.*contextLength/, {
      contextLength: 5000,
    }),
    bad("few.txt", documents(9).join("\n\n"), /training: .*a batch has 999.*batchSize/, { batchSize: 999 }),
    bad("large.txt", documents(9).join("\n\n"), /supports a vocabulary of \d+ tokens, not 60000/, {
      vocabSize: 60000,
    }),
  ])("%s is refused, and leaves no run", async (name, content, message, more) => {
    const out = freshOut();
    const text = write(name, content);
    await refused(begin(out, { corpus: text, settings: { ...settings, ...more } }), message, out);
    expect(existsSync(join(out, "train.json"))).toBe(false);
    // The folder is as good as new.
    await begin(out);
    for (const [file, bytes] of whole)
      if (!file.startsWith("ids")) expect(tree(out).get(file), file).toBe(bytes);
  });

  test("that changed since the run began are told before anything is tokenised", async () => {
    const out = freshOut();
    const text = write("text.txt", documents(40).join("\n\n"));
    await begin(out, { corpus: text, settings: { ...settings, steps: 2, warmupSteps: 0 } });
    const before = tree(out);
    writeFileSync(text, documents(40, 2).join("\n\n"));
    await refused(goOn(out), /the text has changed since the run began/, out);
    expect(tree(out)).toEqual(before);
    await refused(goOn(out, { corpus }), /this run's corpus is .*text\.txt, not .*leave the corpus out/, out);
    rmSync(text);
    await refused(goOn(out), /no such file/, out);
  });

  test("to validate on may be others, but not the same", async () => {
    const out = freshOut();
    const other = write("other.txt", documents(10, 5).join("\n\n"));
    await begin(out, { settings: { ...settings, steps: 2, warmupSteps: 0, validationCorpus: other } });
    expect(readdirSync(join(out, "ids"))).toHaveLength(2);
    await goOn(out);
    const same = { ...settings, validationCorpus: write("same.txt", readFileSync(corpus)) };
    await refused(begin(freshOut(), { settings: same }), /holds the text that is trained on/);
  });
});

describe("settings that do not go together are said before the text is read", () => {
  test.each([
    [{ heads: 3 }, /heads: expected a number that divides hiddenSize 16/],
    [{ family: "gpt2", kvHeads: 1 }, /kvHeads/],
    [{ warmupSteps: 12 }, /warmupSteps/],
    [{ schedule: "wsd", decaySteps: 11 }, /decaySteps/],
    [{ init: "/nothing/there" }, /init and vocabSize were both given/],
    [{ freeze: "body" }, /freeze: a body of random weights/],
    [{ learningRate: Number.NaN }, /learningRate: expected a number/],
  ])("%j", async (more, message) => {
    const out = freshOut();
    const never = write("never.txt", Uint8Array.of(0xff));
    await refused(begin(out, { corpus: never, settings: { ...settings, ...more } as never }), message);
    expect(existsSync(out)).toBe(false);
  });

  test("and so are bad options", async () => {
    const out = freshOut();
    await refused(train({ corpus, out, setings: {} } as never), /unknown option "setings"/);
    await refused(train({ out }), /no corpus/);
    await refused(train({ corpus, out: "" }), /out: expected/);
    await refused(goOn(wholeOut, { settings }), /resume goes on with the run's own settings/);
    await refused(begin(out, { device: "gpu" as never }), /device/);
    await refused(begin(out, { threads: 0 }), /threads/);
  });

  test("a prompt that no sample can begin with is said before the first step", async () => {
    const long = { ...settings, prompts: [documents(1)[0]] };
    await refused(begin(freshOut(), { settings: long }), /prompts: ".*": the prompt has \d+ tokens/);
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
  expect(tree(out)).toEqual(whole);
});

test("the folder of all of this holds no aside left behind", () => {
  const names = readdirSync(folder, { recursive: true }) as string[];
  expect(
    names.filter((name) => /\/run\/([^/]*\.(new|old)|ids\/.*\.tmp)$/.test(name) && !/notes|txt/.test(name)),
  ).toEqual([]);
});
