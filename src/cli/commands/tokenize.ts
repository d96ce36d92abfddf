import { Command } from "commander";
import { InputError } from "../../errors.js";
import { modelPath } from "../load.js";
import { idList, type JsonFlag, jsonOption, type ModelFlags, modelOption } from "../options.js";
import { json, safe, table, visible } from "../render.js";

interface Flags extends ModelFlags, JsonFlag {
  readonly decode?: number[];
}

const example = 'lmhead tokenize "The cat sat on the"';

/** `lmhead tokenize`: text to ids and back. Only the tokenizer is loaded. */
export function tokenizeCommand(signal: AbortSignal): Command {
  return new Command("tokenize")
    .description("show the tokens of a text, or the text of ids")
    .argument("[text]", "the text")
    .addOption(modelOption())
    .option("--decode <ids>", 'the other way: the text of these ids, "1 2 3"', idList("--decode"))
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Examples:
  ${example}
  lmhead tokenize --decode "458 2263"

JSON: { "ids", "tokens" }; with --decode also "text". What the tokenizer adds to a prompt (BOS) is shown.`,
    )
    .action((text: string | undefined, flags: Flags) => run(text, flags, signal));
}

async function run(text: string | undefined, flags: Flags, signal: AbortSignal): Promise<void> {
  if (text !== undefined && flags.decode !== undefined)
    throw new InputError("a text and --decode were both given: expected one of them");
  if (text === undefined && flags.decode === undefined)
    throw new InputError(`no text: expected a text in quotes or --decode, as in: ${example}`);
  if (text === "") throw new InputError("the text is empty: expected at least one character");
  const path = modelPath(flags);
  const { loadTokenizer } = await import("../../node.js");
  const tokenizer = await loadTokenizer(path, { signal });
  const ids = flags.decode ?? tokenizer.encode(text!);
  const tokens = ids.map((id) => tokenizer.tokenText(id));
  const decoded = flags.decode ? { text: tokenizer.decode(ids) } : {};
  if (flags.json) process.stdout.write(`${json({ ids, tokens, ...decoded })}\n`);
  else if (flags.decode)
    process.stdout.write(`${process.stdout.isTTY ? safe(decoded.text!) : decoded.text}\n`);
  else {
    const columns = [
      { title: "id", align: "right" as const },
      { title: "token", max: 60 },
    ];
    const rows = ids.map((id, i) => [String(id), visible(tokens[i])]);
    process.stdout.write(`${table(columns, rows)}\n${ids.length} ${ids.length === 1 ? "token" : "tokens"}\n`);
  }
}
