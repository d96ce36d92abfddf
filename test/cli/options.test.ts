import { describe, expect, it } from "vitest";
import { generateOptions } from "../../src/cli/commands/generate.js";
import {
  decimal,
  idList,
  oneOf,
  promptOf,
  repeated,
  samplingOf,
  wholeNumber,
} from "../../src/cli/options.js";
import { InputError } from "../../src/errors.js";

describe("wholeNumber", () => {
  const parse = wholeNumber("--top", { min: 1, max: 100 });
  it.each([
    ["1", 1],
    ["100", 100],
    ["+7", 7],
    ["007", 7],
  ])("takes %s", (text, value) => expect(parse(text)).toBe(value));
  it.each(["", " ", "0", "101", "-1", "1.5", "1e2", "0x10", "ten", "NaN", "Infinity", "5 "])(
    'refuses "%s"',
    (text) => {
      expect(() => parse(text)).toThrow(InputError);
      expect(() => parse(text)).toThrow(/--top: expected a whole number from 1 to 100, got/);
    },
  );
  it("refuses what a double cannot hold", () => {
    expect(() => wholeNumber("--seed", { min: 0 })("9007199254740993")).toThrow(InputError);
    expect(wholeNumber("--seed", { min: 0 })("9007199254740991")).toBe(2 ** 53 - 1);
  });
});

describe("decimal", () => {
  const parse = decimal("--top-p", { min: 0, max: 1, above: true });
  it.each([
    ["1", 1],
    [".5", 0.5],
    ["0.95", 0.95],
    ["1e-3", 0.001],
  ])("takes %s", (text, value) => expect(parse(text)).toBe(value));
  it.each(["", "0", "-0", "1.01", "-0.5", "NaN", "Infinity", "1e999", "half", "0,5"])(
    'refuses "%s"',
    (text) => {
      expect(() => parse(text)).toThrow(/--top-p: expected a number above 0 and at most 1, got/);
    },
  );
  it("says what to do instead", () => {
    expect(() => decimal("--temperature", { min: 0, above: true, hint: "use --greedy" })("0")).toThrow(
      '--temperature: expected a number above 0, got "0"; use --greedy',
    );
  });
});

describe("idList", () => {
  const parse = idList("--ids");
  it("takes spaces, commas and JSON", () => {
    expect(parse("1 2 3")).toEqual([1, 2, 3]);
    expect(parse(" 1,2,\t3\n")).toEqual([1, 2, 3]);
    expect(parse("[1, 2, 3]")).toEqual([1, 2, 3]);
  });
  it.each(["", " ", "[]", "1 -2", "1 x", "1.5", "4294967296"])('refuses "%s"', (text) => {
    expect(() => parse(text)).toThrow(InputError);
  });
});

describe("the small ones", () => {
  it("oneOf lists the words", () => {
    expect(oneOf("--padded", ["mask", "keep"])("keep")).toBe("keep");
    expect(() => oneOf("--padded", ["mask", "keep"])("drop")).toThrow(
      '--padded: expected one of mask, keep, got "drop"',
    );
  });
  it("repeated collects", () => {
    const parse = repeated("--of");
    expect(parse("b", parse("a", undefined))).toEqual(["a", "b"]);
    expect(() => parse("", undefined)).toThrow(InputError);
  });
  it("promptOf wants exactly one, and not empty", () => {
    expect(promptOf("hi", undefined, "…")).toBe("hi");
    expect(promptOf(undefined, [1], "…")).toEqual({ ids: [1] });
    expect(() => promptOf("hi", [1], "…")).toThrow(/both/);
    expect(() => promptOf(undefined, undefined, "…")).toThrow(/no prompt/);
    expect(() => promptOf("", undefined, "…")).toThrow(/empty/);
  });
  it("samplingOf keeps what was given, and zeros", () => {
    expect(samplingOf({})).toEqual({});
    expect(samplingOf({ topK: 0, topP: undefined })).toEqual({ topK: 0 });
  });
});

describe("generateOptions", () => {
  it("leaves out what no flag says, so that generation_config.json may fill it", () => {
    expect(generateOptions({})).toEqual({});
    expect(generateOptions({ greedy: true, maxNewTokens: 3, json: true })).toEqual({
      greedy: true,
      maxNewTokens: 3,
    });
  });
  it("a flag that asks for a sample overrules a file that says greedy", () => {
    expect(generateOptions({ topP: 0.9 })).toEqual({ topP: 0.9, greedy: false });
    expect(generateOptions({ seed: 0 })).toEqual({ seed: 0, greedy: false });
    expect(generateOptions({ seed: 0, greedy: true })).toEqual({ seed: 0, greedy: true });
    expect(generateOptions({ repetitionPenalty: 1.1 })).toEqual({ repetitionPenalty: 1.1 });
  });
  it("refuses sampling beside --greedy", () => {
    expect(() => generateOptions({ greedy: true, topP: 0.5 })).toThrow(/--greedy .* --top-p/);
    expect(generateOptions({ greedy: true, repetitionPenalty: 1.2 })).toMatchObject({
      repetitionPenalty: 1.2,
    });
  });
});
