import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";

import { optimizerOf } from "../../../src/train/loop/optimizer.js";
import { presets } from "../../../src/train/loop/presets.js";
import { scheduleOf, stepsOf } from "../../../src/train/loop/schedule.js";
import { settingsSchema } from "../../../src/train/loop/schema.js";
import { checkFilled, checkSettings, defaultOf, fillSettings } from "../../../src/train/loop/settings.js";
import { type SettingName, table } from "../../../src/train/loop/settings-table.js";
import { updatesOf } from "../../../src/train/optimizers/updates.js";

const { schema, samples } = JSON.parse(
  readFileSync(new URL("fixtures/settings.json", import.meta.url), "utf8"),
) as { readonly schema: object; readonly samples: readonly [Record<string, unknown>, boolean][] };
const names = Object.keys(table) as SettingName[];

describe("the JSON schema", () => {
  test("is the one that fixtures/make_settings.py was given", () => {
    expect(settingsSchema()).toEqual(schema);
  });

  test("takes what the checks take, and refuses what they refuse", () => {
    const ours = samples.map(([given]): [unknown, boolean] => {
      try {
        checkSettings("test", given);
        return [given, true];
      } catch (error) {
        expect(error).toBeInstanceOf(InputError);
        // One line that names a setting.
        expect((error as Error).message).toMatch(/^test: [^\n]+$/);
        expect(Object.keys(given).some((name) => (error as Error).message.includes(name))).toBe(true);
        return [given, false];
      }
    });
    expect(ours).toEqual(samples);
    expect(samples.length).toBeGreaterThan(1500);
    expect(samples.filter(([, valid]) => valid).length).toBeGreaterThan(800);
  });
});

test("numbers that JSON has not are refused", () => {
  for (const [name, setting] of Object.entries(table))
    if (setting.kind === "whole" || setting.kind === "number")
      for (const value of [Number.NaN, Infinity, -Infinity, "3", 3n])
        expect(() => checkSettings("test", { [name]: value as never }), name).toThrow(/expected/);
  expect(() => checkSettings("test", null)).toThrow(/expected an object of settings, got null/);
});

describe("filled settings", () => {
  test.each(Object.keys(presets) as (keyof typeof presets)[])("of %s have the preset's values", (preset) => {
    const filled = fillSettings("test", { preset });
    expect(filled).toMatchObject(presets[preset]);
    expect(filled.preset).toBe(preset);
    expect(checkFilled("test", JSON.parse(JSON.stringify(filled)))).toEqual(filled);
  });

  test("are tiny's without a word, and what is given comes before", () => {
    expect(fillSettings("test", {})).toMatchObject(presets.tiny);
    expect(fillSettings("test", { preset: "small", layers: 1, tied: false })).toEqual({
      ...fillSettings("test", { preset: "small" }),
      layers: 1,
      tied: false,
    });
  });

  test("written down are refused when one is missing", () => {
    const filled = fillSettings("test", {});
    const optional = new Set(["name", "separator", "validationCorpus", "tokenizer", "init"]);
    for (const name of ["kvHeads", "innerSize", "epochs", "warmupSteps", "decaySteps"]) optional.add(name);
    for (const name of names) {
      const { [name]: _, ...less } = filled;
      if (optional.has(name)) expect(checkFilled("test", less)).toEqual(filled);
      else expect(() => checkFilled("test", less), name).toThrow(`test: ${name} is missing`);
    }
  });

  test("with both of a pair that excludes itself can be written down and read again", () => {
    const filled = fillSettings("test", { epochs: 2, separator: "--" });
    expect(checkFilled("test", filled)).toEqual(filled);
  });
});

test("a default is told in words", () => {
  expect(defaultOf("steps")).toBe("tiny 1000, small 5000");
  expect(defaultOf("batchSize")).toBe("16");
  expect(defaultOf("tied")).toBe("yes");
  expect(defaultOf("init")).toBeUndefined();
});

test("every optimizer is made of the settings that are its own", () => {
  const given = { weightDecay: 0.3, momentum: 0.7, beta1: 0.6, beta2: 0.8 };
  const matrix = { name: "w", shape: [2, 3], kind: "matrix" } as const;
  for (const optimizer of table.optimizer.words) {
    const filled = { ...fillSettings("test", { optimizer }), ...given };
    const made = optimizerOf(filled).optimizer!;
    expect(made.name).toBe(optimizer);
    expect(made).toMatchObject({ weightDecay: 0.3 });
    if (optimizer === "sgd" || optimizer === "muon") expect(made).toMatchObject({ momentum: 0.7 });
    if (optimizer === "adamw" || optimizer === "lion") expect(made).toMatchObject({ beta1: 0.6, beta2: 0.8 });
    if (optimizer === "muon")
      expect(made).toMatchObject({ adamw: { beta1: 0.6, beta2: 0.8, weightDecay: 0.3 } });
    expect(updatesOf(made, [matrix]).size).toBe(1);
  }
});

describe("a schedule", () => {
  test("warms up over a twentieth, at most 200 steps, and decays over a fifth", () => {
    const of = (steps: number, more = {}) => scheduleOf(fillSettings("test", { ...more }), steps);
    expect(of(1000)).toMatchObject({ kind: "cosine", peak: 2e-3, warmupSteps: 50, finalFraction: 0.1 });
    expect(of(100_000)).toMatchObject({ warmupSteps: 200 });
    expect(of(1)).toMatchObject({ warmupSteps: 0 });
    expect(of(1000, { schedule: "wsd" })).toMatchObject({ kind: "wsd", decaySteps: 200 });
    expect(of(1000, { schedule: "constant", warmupSteps: 7 })).toEqual({
      kind: "constant",
      peak: 2e-3,
      warmupSteps: 7,
    });
  });

  test("counts epochs in whole steps, and at least one", () => {
    const of = (epochs: number, epochsAStep: number) =>
      stepsOf(fillSettings("test", { epochs }), epochsAStep);
    expect(of(2, 0.1)).toBe(20);
    expect(of(0.25, 0.1)).toBe(3);
    expect(of(0.001, 0.1)).toBe(1);
    expect(of(0.3, 0.1)).toBe(3);
    expect(stepsOf(fillSettings("test", { steps: 7 }), 0.1)).toBe(7);
  });
});

test("docs/training.md tells every setting with its default", () => {
  const text = readFileSync(new URL("../../../docs/training.md", import.meta.url), "utf8");
  const [table] = text.slice(text.indexOf("| setting |")).split("\n\n");
  for (const name of names) {
    const row = table.split("\n").find((line) => line.startsWith(`| \`${name}\` |`));
    expect(row, name).toBeDefined();
    const byDefault = defaultOf(name);
    if (byDefault !== undefined) expect(row, name).toContain(`| ${byDefault} |`);
  }
  const rows = table.match(/^\| `\w+` \|/gm)!.map((row) => row.slice(3, -3));
  expect(rows).toEqual(names);
});
