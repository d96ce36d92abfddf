import { Command } from "commander";
import { InputError } from "../../errors.js";
import type { Score, ScoredToken } from "../../node.js";
import { readText } from "../input.js";
import { ProgressLine, withModel } from "../load.js";
import {
  addModelOptions,
  idsOption,
  type JsonFlag,
  jsonOption,
  type ModelFlags,
  type Prompt,
  promptOf,
  wholeNumber,
} from "../options.js";
import { type Colours, colours, fixed, json, safe, table, visible } from "../render.js";

interface Flags extends ModelFlags, JsonFlag {
  readonly ids?: number[];
  readonly file?: string;
  readonly window?: number;
  readonly stride?: number;
}

const example = 'lmhead score "The cat sat on the mat."';

/** `lmhead score`: how surprised the model is by each token of a text. */
export function scoreCommand(signal: AbortSignal): Command {
  const command = new Command("score")
    .description("each token's log-probability and rank; perplexity and bits per byte of the whole")
    .argument("[text]", "the text (default: standard input)")
    .option("-f, --file <path>", "score this file")
    .addOption(idsOption())
    .option(
      "--window <n>",
      "tokens that are read at once (default: the context + 1, or what fits into memory)",
      wholeNumber("--window", { min: 2 }),
    )
    .option(
      "--stride <n>",
      "tokens by which windows advance (default: half of the window)",
      wholeNumber("--stride", { min: 1 }),
    );
  return addModelOptions(command)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Examples:
  ${example}
  lmhead score --file chapter.txt --window 1024 --stride 512 --json

A text longer than a window is scored by windows that overlap; each token is predicted once. At most 4 MiB.
JSON: { "tokens": [{ "id", "text", "logProb" (null for the first), "rank" }], "sum", "count", "perplexity",
"bitsPerByte" }; natural logarithms, raw; rank 1 is the likeliest.`,
    )
    .action(async (text: string | undefined, flags: Flags) => {
      const input = await inputOf(text, flags, signal);
      await withModel(flags, signal, async ({ model }) => {
        const progress = new ProgressLine();
        progress.show("scoring");
        const { window, stride } = flags;
        const score = await model.score(input, { window, stride, signal }).finally(() => progress.clear());
        process.stdout.write(flags.json ? `${json(toJson(score))}\n` : `${render(score)}\n`);
      });
    });
}

async function inputOf(text: string | undefined, flags: Flags, signal: AbortSignal): Promise<Prompt> {
  const given = [text, flags.file, flags.ids].filter((item) => item !== undefined).length;
  if (given > 1) throw new InputError("expected one of: a text, --file, --ids; got several");
  if (flags.file !== undefined) return readText(flags.file, signal);
  if (given === 1) return promptOf(text, flags.ids, example);
  // Waiting on a terminal for a text that nobody knows to type would look like a hang.
  if (process.stdin.isTTY)
    throw new InputError(`no text: give one in quotes, with --file or on standard input, as in: ${example}`);
  return readText(undefined, signal);
}

function toJson({ tokens, sum, count, perplexity, bitsPerByte }: Score): object {
  const plain = tokens.map(({ id, text, logProb, rank }) => ({ id, text, logProb, rank }));
  return { tokens: plain, sum, count, perplexity, bitsPerByte };
}

/** From expected to astonishing, by bits of surprise: -log₂ p. */
const levels: readonly { readonly below: number; readonly name: string; readonly paint: keyof Colours }[] = [
  { below: 1, name: "<1 bit", paint: "gray" },
  { below: 4, name: "1-4", paint: "green" },
  { below: 8, name: "4-8", paint: "yellow" },
  { below: 12, name: "8-12", paint: "red" },
  { below: Infinity, name: ">12", paint: "bgRed" },
];

/** The colour of a token's surprise; the first token was not predicted and keeps the terminal's own. */
export function paintSurprise(colour: Colours, text: string, logProb: number | null): string {
  if (logProb === null) return text;
  const bits = -logProb / Math.LN2;
  const level = levels.find(({ below }) => bits < below) ?? levels[levels.length - 1];
  const paint = colour[level.paint] as (text: string) => string;
  // Line by line: a background that runs over a line's end would fill the terminal's width.
  return text
    .split("\n")
    .map((part) => (part === "" ? part : paint(part)))
    .join("\n");
}

function render(score: Score): string {
  const colour = colours(process.stdout);
  const body = colour.isColorSupported ? colouredText(colour, score.tokens) : tokenTable(score.tokens);
  return `${body}\n\n${scoreLine(score)}`;
}

function colouredText(colour: Colours, tokens: readonly ScoredToken[]): string {
  const text = tokens.map(({ text, logProb }) => paintSurprise(colour, safe(text), logProb)).join("");
  const legend = levels
    .map(({ name, paint }) => (colour[paint] as (text: string) => string)(name))
    .join("  ");
  return `${text}\n\nsurprise: ${legend}`;
}

/** Without colours the numbers say it. */
function tokenTable(tokens: readonly ScoredToken[]): string {
  const columns = [
    { title: "id", align: "right" },
    { title: "token", max: 40 },
    { title: "logprob", align: "right" },
    { title: "rank", align: "right" },
  ] as const;
  const rows = tokens.map(({ id, text, logProb, rank }) => [
    String(id),
    visible(text),
    logProb === null ? "-" : fixed(logProb, 4),
    rank === null ? "-" : String(rank),
  ]);
  return table(columns, rows);
}

/** The summary: tokens predicted, sum, perplexity, bits per byte. */
export function scoreLine({ count, sum, perplexity, bitsPerByte }: Score): string {
  const mean = [
    ...(perplexity === null ? [] : [`perplexity ${fixed(perplexity, 4)}`]),
    ...(bitsPerByte === null ? [] : [`${fixed(bitsPerByte, 4)} bits per byte`]),
  ];
  return [`${count} tokens predicted`, `sum ${fixed(sum, 4)} nats`, ...mean].join(", ");
}
