import { afterEach, expect, it, vi } from "vitest";
import { nextCommand } from "../../src/cli/commands/next.js";
import { AbortError } from "../../src/errors.js";
import { LanguageModel } from "../../src/model/language-model.js";

afterEach(() => vi.restoreAllMocks());

it.each([
  ["the likeliest", []],
  ["other texts", ["--of", " a longer text"]],
  ["processed values", ["--top-p", "0.5"]],
  ["an explanation", ["--explain"]],
])("next %s: Ctrl-C ends it after the prompt has been read, too", async (_, flags) => {
  const controller = new AbortController();
  const { next } = LanguageModel.prototype;
  vi.spyOn(LanguageModel.prototype, "next").mockImplementation(async function (
    this: LanguageModel,
    ...given: unknown[]
  ) {
    const distribution = await Reflect.apply(next, this, given);
    controller.abort();
    return distribution;
  });
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const run = nextCommand(controller.signal).parseAsync(["Once upon a time", ...flags], { from: "user" });
  await expect(run).rejects.toThrow(AbortError);
  expect(write).not.toHaveBeenCalled();
});
