import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { built, expectRefused, lmhead } from "./process.js";

const commands = ["next", "generate", "score", "tokenize", "info"];

describe.runIf(built)("lmhead, before any model", () => {
  it("--version is the package's", async () => {
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
    expect(await lmhead(["--version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  });

  it("--help lists the commands and the exit codes; no arguments show it too", async () => {
    const help = await lmhead(["--help"]);
    expect(help).toMatchObject({ code: 0, stderr: "" });
    for (const command of commands) expect(help.stdout).toContain(`  ${command} `);
    expect(help.stdout).toMatch(/Exit codes:\n {2}0/);
    expect(await lmhead([])).toEqual(help);
  });

  it.each(commands)("%s --help has an example", async (command) => {
    const { code, stdout, stderr } = await lmhead([command, "--help"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(new RegExp(`Examples?:\n +lmhead ${command} `));
    expect(stdout).toContain("--model <path>");
    expect(stdout).toContain("--json");
  });

  const model = ["--model", "nowhere"];
  it.each<[string, string[], RegExp]>([
    ["a command nobody knows", ["nxt"], /unknown command 'nxt' \(Did you mean next\?\)/],
    [
      "an option nobody knows",
      ["next", "a", "--temprature", "1"],
      /unknown option '--temprature' \(Did you mean --temperature\?\)/,
    ],
    ["an option without its value", ["next", "a", "--top"], /--top <k>' argument missing/],
    ["a text without quotes", ["next", "The", "cat"], /too many arguments.*quotes/],
    ["an empty path", ["next", "a", "--model", ""], /--model: expected a path, got an empty one/],
    ["an empty path to tokenize with", ["tokenize", "a", "--model="], /--model: expected a path/],
    ["no prompt", ["next", ...model], /no prompt/],
    ["an empty prompt", ["next", "", ...model], /prompt is empty/],
    ["an empty prompt to continue", ["generate", "", ...model], /prompt is empty/],
    ["text and ids", ["next", "a", "--ids", "1", ...model], /both/],
    [
      "ids that are none",
      ["next", "--ids", "1 two", ...model],
      /--ids: expected a whole number .* got "two"/,
    ],
    ["negative ids", ["next", "--ids", "-1", ...model], /--ids: expected a whole number/],
    ["no ids", ["next", "--ids", " ", ...model], /--ids: expected ids/],
    ["--top 0", ["next", "a", "--top", "0", ...model], /--top: expected/],
    ["--top 1.5", ["next", "a", "--top", "1.5", ...model], /--top: expected/],
    ["--of nothing", ["next", "a", "--of", "", ...model], /--of: expected a text/],
    ["--explain --json", ["next", "a", "--explain", "--json", ...model], /--explain/],
    [
      "--device tpu",
      ["next", "a", "--device", "tpu", ...model],
      /--device: expected one of auto, wasm, reference/,
    ],
    ["--threads 0", ["next", "a", "--threads", "0", ...model], /--threads: expected/],
    ["--padded drop", ["next", "a", "--padded", "drop", ...model], /--padded: expected one of mask, keep/],
    ["--temperature 0", ["generate", "a", "--temperature", "0", ...model], /--temperature: .*--greedy/],
    [
      "--temperature -1",
      ["generate", "a", "--temperature", "-1", ...model],
      /--temperature: expected a number above 0/,
    ],
    [
      "--temperature nan",
      ["generate", "a", "--temperature", "nan", ...model],
      /--temperature: expected a number/,
    ],
    ["--top-k -1", ["generate", "a", "--top-k", "-1", ...model], /--top-k: expected/],
    ["--top-p 1.5", ["generate", "a", "--top-p", "1.5", ...model], /--top-p: expected/],
    ["--top-p 0", ["generate", "a", "--top-p", "0", ...model], /--top-p: expected/],
    ["--min-p 2", ["generate", "a", "--min-p", "2", ...model], /--min-p: expected/],
    [
      "--repetition-penalty 0",
      ["generate", "a", "--repetition-penalty", "0", ...model],
      /--repetition-penalty: expected/,
    ],
    ["--seed -1", ["generate", "a", "--seed", "-1", ...model], /--seed: expected/],
    [
      "--max-new-tokens 0",
      ["generate", "a", "--max-new-tokens", "0", ...model],
      /--max-new-tokens: expected/,
    ],
    ["--stop nothing", ["generate", "a", "--stop", "", ...model], /--stop: expected a text/],
    ["--alternatives -1", ["generate", "a", "--alternatives", "-1", ...model], /--alternatives: expected/],
    ["--greedy with --top-p", ["generate", "a", "--greedy", "--top-p", "0.5", ...model], /--greedy/],
    ["--window 1", ["score", "a", "--window", "1", ...model], /--window: expected a whole number from 2/],
    ["--stride 0", ["score", "a", "--stride", "0", ...model], /--stride: expected/],
    ["text and --file", ["score", "a", "--file", "b", ...model], /expected one of/],
    [
      "no such file to score",
      ["score", "--file", "/nowhere/at/all", ...model],
      /\/nowhere\/at\/all: no such file/,
    ],
    ["a folder to score", ["score", "--file", "/", ...model], /\/: is a folder/],
    ["nothing on stdin to score", ["score", ...model], /standard input is empty/],
    ["text and --decode", ["tokenize", "a", "--decode", "1", ...model], /both/],
    ["nothing to tokenize", ["tokenize", ...model], /no text/],
    ["ids to decode that are none", ["tokenize", "--decode", "x", ...model], /--decode: expected/],
  ])("%s", (_, args, message) => expectRefused(args, message));

  it("bytes that are not UTF-8", () =>
    expectRefused(["score", ...model], /expected UTF-8 text/, { input: Buffer.from([0x61, 0xff]) }));

  it("an endless file", () =>
    expectRefused(["score", "--file", "/dev/zero", ...model], /at most 4 MiB of text; split it/));
});
