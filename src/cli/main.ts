#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { generateCommand } from "./commands/generate.js";
import { infoCommand } from "./commands/info.js";
import { nextCommand } from "./commands/next.js";
import { scoreCommand } from "./commands/score.js";
import { tokenizeCommand } from "./commands/tokenize.js";
import { trainCommand } from "./commands/train.js";
import { describeFailure, exitCodes, exitHelp, interruptible, oneLine, quietPipes } from "./exit.js";

function version(): string {
  const file = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(file) as { version: string }).version;
}

/** The command line as commander knows it; `signal` reaches the commands. */
export function buildProgram(signal: AbortSignal): Command {
  const program = new Command("lmhead")
    .description("The language-model head: ask a model what comes next, and how sure it is.")
    .version(version(), "-V, --version", "print the version")
    .addHelpText(
      "after",
      `
Example:
  lmhead next "The cat sat on the"
  lmhead generate "Once upon a time" --model SmolLM2-135M-Instruct.Q4_1.gguf`,
    )
    .addHelpText("afterAll", `\n${exitHelp}`);
  const commands = [nextCommand, generateCommand, scoreCommand, tokenizeCommand, infoCommand, trainCommand];
  for (const command of commands) program.addCommand(command(signal));
  for (const command of [program, ...program.commands])
    command.exitOverride().configureOutput({ outputError: () => {}, writeErr: () => {} });
  return program;
}

/** Commander's message as one line: "error: unknown option '--topp'\n(Did you mean --top-p?)". */
function usage(error: CommanderError): string {
  if (error.code === "commander.help") return "lmhead: unknown command; see lmhead --help";
  const message = oneLine(error.message).replace(/^error: /, "");
  const hint = error.code === "commander.excessArguments" ? " (put a text with spaces in quotes)" : "";
  return `lmhead: ${message}${hint}; see lmhead --help`;
}

async function main(): Promise<void> {
  quietPipes();
  const { signal, code } = interruptible();
  const program = buildProgram(signal);
  if (process.argv.length <= 2) {
    program.outputHelp();
    return;
  }
  try {
    await program.parseAsync();
    process.exitCode = code() ?? exitCodes.ok;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return;
      process.stderr.write(`${usage(error)}\n`);
      process.exitCode = exitCodes.input;
      return;
    }
    const failure = describeFailure(error, Boolean(process.env.LMHEAD_DEBUG));
    process.stderr.write(`${failure.message}\n`);
    process.exitCode = code() ?? failure.code;
  }
}

await main();
