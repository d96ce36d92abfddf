import { describe, expect, it } from "vitest";
import { InputError } from "../../../src/errors.js";
import { parseMetrics } from "../../../src/train/metrics.js";
import { jsonl, run, sample, step, validation } from "./metrics.js";

const good = [run(), validation(0), step(1), step(2), validation(2), sample(2), sample(2, { prompt: "" })];

describe("good metrics", () => {
  it("are read by kind, in their order", () => {
    expect(parseMetrics(jsonl(good), "metrics.jsonl")).toEqual({
      run: good[0],
      steps: [good[2], good[3]],
      validations: [good[1], good[4]],
      samples: [good[5], good[6]],
    });
  });

  it("may be of a run without steps", () => {
    expect(parseMetrics(jsonl([run()]), "m")).toEqual({
      run: run(),
      steps: [],
      validations: [],
      samples: [],
    });
  });

  it("may skip steps, have any config, and line separators in texts", () => {
    const lines = [
      run({ config: { a: [null, { "": 1 }] } }),
      step(3),
      sample(7, { text: "\u2028\n\r" }),
      step(7),
    ];
    const { steps, samples } = parseMetrics(jsonl(lines), "m");
    expect(steps.map(({ step }) => step)).toEqual([3, 7]);
    expect(samples[0].text).toBe("\u2028\n\r");
  });
});

describe("bad metrics name the line, the field and what is wrong", () => {
  const cut = jsonl(good).slice(0, -1);
  const texts: [name: string, text: string, message: string][] = [
    ["nothing", "", 'm: is empty; expected a line of type "run" first'],
    ["a last line without its end", cut, "m, line 7: has no line end, so it may be cut short"],
    ["a last line cut short", cut.slice(0, -9), "m, line 7: has no line end, so it may be cut short"],
    [
      "a cut line inside",
      `${jsonl([run()])}{"type":"step","st\n${jsonl([step(1)])}`,
      "m, line 2: is not valid JSON",
    ],
    ["a blank line", `${jsonl([run()])}\n`, "m, line 2: is not valid JSON"],
    ["a list", "[]\n", "m, line 1: expected a JSON object, got"],
  ];
  it.each(texts)("%s", (_, text, message) => {
    expect(() => parseMetrics(text, "m")).toThrow(InputError);
    expect(() => parseMetrics(text, "m")).toThrow(message);
  });

  const lines: [lines: object[], message: string][] = [
    [[step(1)], 'm, line 1: type: expected "run" first, got "step"'],
    [[run(), run()], 'm, line 2: type: a second "run"; expected one run a file, on line 1'],
    [[run(), { step: 1 }], "m, line 2: type: expected run, step, validation, sample, got nothing"],
    [
      [run(), step(1, { type: "toString" })],
      'm, line 2: type: expected run, step, validation, sample, got "toString"',
    ],
    [[run(), step(1, { seconds: 1 })], 'm, line 2: unknown field "seconds"; the fields are type, step, loss'],
    [
      [run(), step(1, { loss: undefined })],
      "m, line 2: loss: expected a finite number, got nothing (the field is missing)",
    ],
    [[run(), step(1, { loss: NaN })], "m, line 2: loss: expected a finite number, got null"],
    [[run(), step(1, { loss: "2" })], 'm, line 2: loss: expected a finite number, got "2"'],
    [[run(), step(0)], "m, line 2: step: expected a whole number from 1, got 0"],
    [[run(), step(1.5)], "m, line 2: step: expected a whole number from 1, got 1.5"],
    [
      [run(), step(1, { learningRate: -1 })],
      "m, line 2: learningRate: expected a finite number from 0, got -1",
    ],
    [
      [run(), step(1, { gradientNorm: Infinity })],
      "m, line 2: gradientNorm: expected a finite number from 0, got null",
    ],
    [[run(), step(1, { tokens: 0.5 })], "m, line 2: tokens: expected a whole number from 0, got 0.5"],
    [[run(), step(11)], "m, line 2: step: expected at most 10, the run's steps, got 11"],
    [[run(), step(2), step(1)], "m, line 3: step: goes back from 2 to 1"],
    [[run(), sample(2), validation(1)], "m, line 3: step: goes back from 2 to 1"],
    [[run(), step(2), step(2)], 'm, line 3: step: a second line of type "step" for step 2'],
    [[run(), validation(2), validation(2)], 'm, line 3: step: a second line of type "validation" for step 2'],
    [[run(), step(1), step(2, { tokens: 9 })], "m, line 3: tokens: goes down from 100 to 9"],
    [[run(), validation(-1)], "m, line 2: step: expected a whole number from 0, got -1"],
    [
      [run(), validation(1, { perplexity: true })],
      "m, line 2: perplexity: expected a finite number from 0, got true",
    ],
    [
      [run(), validation(1, { bitsPerByte: -1 })],
      "m, line 2: bitsPerByte: expected a finite number from 0, got -1",
    ],
    [
      [run(), sample(1, { text: ["x".repeat(99)] })],
      `m, line 2: text: expected a string, got ["${"x".repeat(55)}…`,
    ],
    [[run(), sample(1, { prompt: null })], "m, line 2: prompt: expected a string, got null"],
    [[run({ name: "" })], 'm, line 1: name: expected a string that is not empty, got ""'],
    [[run({ steps: 0 })], "m, line 1: steps: expected a whole number from 1, got 0"],
    [[run({ config: [] })], "m, line 1: config: expected an object, got []"],
    [[run({ model: "gpt2" })], 'm, line 1: model: expected an object, got "gpt2"'],
    [
      [run({ model: { ...run().model, heads: 2 } })],
      'm, line 1: unknown field "model.heads"; the fields are family,',
    ],
    [
      [run({ model: { ...run().model, layers: -1 } })],
      "m, line 1: model.layers: expected a whole number from 0, got -1",
    ],
    [
      [run({ model: { family: "gpt2" } })],
      "m, line 1: model.parameters: expected a whole number from 1, got nothing",
    ],
  ];
  it.each(lines)("%j", (objects, message) => {
    expect(() => parseMetrics(jsonl(objects), "m")).toThrow(InputError);
    expect(() => parseMetrics(jsonl(objects), "m")).toThrow(message);
  });

  it("a field from the prototype is missing all the same", () => {
    const line = `{"type":"sample","step":1,"prompt":"","__proto__":{"text":""}}\n`;
    expect(() => parseMetrics(jsonl([run()]) + line, "m")).toThrow('unknown field "__proto__"');
  });
});
