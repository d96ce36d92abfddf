import { expect, test } from "vitest";

const { cleaned } = await import(
  new URL("../../models/tiny-gpt/recipe/lib/cleaned.mjs", import.meta.url).href
);

const sentence = "The cat sat on the mat and looked at the old man.";

test("a text that was cut loses its unfinished sentence", () => {
  expect(cleaned(` ${sentence} Then it`, false)).toBe(sentence);
  expect(cleaned(`${sentence} "Come here!" he said to`, false)).toBe(`${sentence} "Come here!"`);
});

test("a text that ended stays whole", () => {
  expect(cleaned(`${sentence} The end`, true)).toBe(`${sentence} The end`);
});

test("short texts and texts that repeat themselves are dropped", () => {
  expect(cleaned("Yes.", true)).toBeUndefined();
  expect(cleaned("no end at all, but many, many words in one long row", false)).toBeUndefined();
  expect(cleaned("He was so happy. ".repeat(5), true)).toBeUndefined();
  expect(cleaned(`${sentence} ${sentence}`, true)).toBe(`${sentence} ${sentence}`);
});
