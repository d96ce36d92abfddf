import { cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { AbortError } from "../../../src/errors.js";
import { expectNothingAside, freshOut, goOn, refused, tree, wholeRun } from "./runs.js";

const whole = wholeRun();

describe("damage", () => {
  const checkpoint = (out: string, step: number) => join(out, `step-${String(step).padStart(6, "0")}`);
  let out: string;
  const copy = () => {
    out = freshOut();
    cpSync(whole.out, out, { recursive: true });
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
    expect(tree(out)).toEqual(whole.tree);
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
    expect(tree(out)).toEqual(whole.tree);
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

  test("a best model that was moved away is made again while its weights are there", async () => {
    copy();
    rmSync(join(out, "best"), { recursive: true });
    rmSync(checkpoint(out, 12), { recursive: true });
    await goOn(out);
    expect(readdirSync(join(out, "best"))).toContain("model.safetensors");
    expect(tree(out)).toEqual(whole.tree);
    // The last validation was the best: its weights are those of the last checkpoint.
    rmSync(join(out, "best"), { recursive: true });
    await goOn(out);
    expect(tree(out)).toEqual(whole.tree);
    // A best one of an earlier step can't be made again when nothing is left to do.
    rmSync(join(out, "best"), { recursive: true });
    const path = join(checkpoint(out, 12), "training.json");
    const manifest = JSON.parse(readFileSync(path, "utf8"));
    writeFileSync(path, JSON.stringify({ ...manifest, best: { ...manifest.best, step: 9 } }));
    await refused(
      goOn(out),
      /best: is not there, and was of step 9, .*bring it back, or take .*step-000012/,
      out,
    );
  });

  test("of the cache of ids: it is made anew", async () => {
    copy();
    const [ids] = readdirSync(join(out, "ids"));
    alter(join(out, "ids", ids));
    rmSync(checkpoint(out, 12), { recursive: true });
    await goOn(out);
    expect(tree(out)).toEqual(whole.tree);
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

test("nothing written aside is left in any run's folder", expectNothingAside);
