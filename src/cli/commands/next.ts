import { Command, Option } from "commander";
import { InputError } from "../../errors.js";
import type { Distribution, LanguageModel } from "../../node.js";
import { explain } from "../explain.js";
import { type Loaded, withModel } from "../load.js";
import {
  addModelOptions,
  addSamplingOptions,
  idsOption,
  type JsonFlag,
  jsonOption,
  type ModelFlags,
  type Prompt,
  promptOf,
  repeated,
  type SamplingFlags,
  samplingOf,
  wholeNumber,
} from "../options.js";
import { bar, type Colours, type Column, colours, fixed, json, percent, table, visible } from "../render.js";

interface Flags extends ModelFlags, JsonFlag, SamplingFlags {
  readonly ids?: number[];
  readonly top: number;
  readonly of?: string[];
  readonly explain?: boolean;
}

/** A row of the answer, as the JSON has it; the processed fields are there when sampling options were given. */
export interface TopRow {
  readonly id: number;
  readonly token: string;
  readonly logit: number;
  readonly logProb: number;
  readonly prob: number;
  readonly processedLogProb?: number;
  readonly processedProb?: number;
}

/** An answer to --of. */
export interface OfRow {
  readonly text: string;
  readonly ids: number[];
  readonly logProb: number;
  /** 1 is the likeliest; null for several ids. */
  readonly rank: number | null;
}

const example = 'lmhead next "The cat sat on the" --model model.gguf';

/** `lmhead next`: what comes next, and how sure the model is. */
export function nextCommand(signal: AbortSignal): Command {
  const command = new Command("next")
    .description("what comes next: the likeliest tokens with their exact probabilities")
    .argument("[prompt]", "the text before")
    .addOption(idsOption())
    .option(
      "-k, --top <k>",
      "how many tokens, up to the whole vocabulary",
      wholeNumber("--top", { min: 1 }),
      10,
    )
    .addOption(
      new Option("--of <text>", "the log-probability and rank of this text; may be repeated").argParser<
        string[] | undefined
      >(repeated("--of")),
    )
    .option("--explain", "show each step from text to token, with shapes and numbers");
  addSamplingOptions(command);
  return addModelOptions(command)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Examples:
  ${example}
  lmhead next "The cat sat on the" --model model.gguf --of " mat" --of " dog" --json
  lmhead next "The cat sat on the" --model model.gguf --explain

Probabilities are the model's own (raw); sampling options add what they make of them (processed).
JSON: { "promptIds", "logSumExp", "entropy" (nats), "top": [{ "id", "token", "logit", "logProb", "prob" }],
"of": [{ "text", "ids", "logProb", "rank" (null for several ids) }] }; with sampling options each "top" also has
"processedLogProb" (null: filtered out) and "processedProb".`,
    )
    .action(async (text: string | undefined, flags: Flags) => {
      const prompt = promptOf(text, flags.ids, example);
      if (flags.explain && flags.json) throw new InputError("--explain is for people: leave out --json");
      await withModel(flags, signal, (loaded) => run(loaded, prompt, flags, signal));
    });
}

async function run({ model }: Loaded, prompt: Prompt, flags: Flags, signal: AbortSignal): Promise<void> {
  const promptIds = model.promptIds(prompt);
  const { vocabSize } = model.info();
  if (flags.top > vocabSize)
    throw new InputError(
      `--top: expected from 1 to ${vocabSize}, the size of the vocabulary, got ${flags.top}`,
    );
  const next = await model.next({ ids: promptIds }, { signal });
  const sampling = samplingOf(flags);
  const processed = Object.keys(sampling).length > 0 ? await next.processed(sampling) : undefined;
  const top: TopRow[] = (await next.top(flags.top)).map(({ id, token, logit, logProb, prob }) => ({
    id,
    token,
    logit,
    logProb,
    prob,
    ...(processed && { processedLogProb: processed.logProb(id), processedProb: processed.prob(id) }),
  }));
  const logSumExp = await next.logSumExp();
  const entropy = await next.entropy();
  const of: OfRow[] = [];
  for (const text of flags.of ?? []) of.push(await answerOf(model, next, promptIds, text, signal));
  const out = process.stdout;
  const colour = colours(out);
  if (flags.json) out.write(`${json({ promptIds, logSumExp, entropy, top, of })}\n`);
  else if (flags.explain) {
    const { hidden, layers } = await model.hidden({ ids: promptIds }, { layers: [0], signal });
    const tokens = promptIds.map((id) => model.token(id));
    const text = typeof prompt === "string" ? prompt : undefined;
    const logits = await next.logits();
    const facts = { text, ids: promptIds, tokens, info: model.info(), vectors: layers.get(0)!, hidden };
    out.write(`${explain({ ...facts, logits, logSumExp, entropy, top }, colour)}\n`);
    if (of.length > 0) out.write(`\n${ofTable(of)}\n`);
  } else {
    out.write(`${topTable(top, out.columns ?? 80, colour)}\n`);
    if (of.length > 0) out.write(`\n${ofTable(of)}\n`);
    out.write(`\nlog-sum-exp ${fixed(logSumExp, 4)}, entropy ${fixed(entropy, 4)} nats\n`);
  }
}

/** The log-probability of a whole text after the prompt: of one id from the distribution, of several by the chain rule. */
async function answerOf(
  model: LanguageModel,
  next: Distribution,
  promptIds: number[],
  text: string,
  signal: AbortSignal,
): Promise<OfRow> {
  const ids = model.tokenizer.encode(text, { addSpecial: false });
  if (ids.length === 1)
    return { text, ids, logProb: await next.logProb(ids[0]), rank: await next.rank(ids[0]) };
  const length = promptIds.length + ids.length - 1;
  if (length > model.maxPositions)
    throw new InputError(
      `--of "${text}": the prompt and this text take ${length} positions, the model has ${model.maxPositions}; shorten one`,
    );
  const { tokens } = await model.score({ ids: [...promptIds, ...ids] }, { signal });
  const logProb = tokens.slice(promptIds.length).reduce((sum, token) => sum + (token.logProb ?? 0), 0);
  return { text, ids, logProb, rank: null };
}

/** The likeliest tokens with bars relative to the likeliest; `columns` is the terminal's width. */
export function topTable(top: readonly TopRow[], columns: number, colour: Colours): string {
  const processed = top[0].processedProb !== undefined;
  const width = Math.max(8, Math.min(40, columns - (processed ? 64 : 52)));
  const scale = top[0].prob > 0 ? 1 / top[0].prob : 0;
  const titles: Column[] = [
    { title: "rank", align: "right" },
    { title: "id", align: "right" },
    { title: "token", max: 24 },
    { title: "logprob", align: "right" },
    { title: "prob", align: "right" },
    ...(processed ? [{ title: "processed", align: "right" } as const] : []),
    { title: "" },
  ];
  const rows = top.map((row, i) => [
    String(i + 1),
    String(row.id),
    visible(row.token),
    fixed(row.logProb, 4),
    percent(row.prob),
    ...(row.processedProb === undefined ? [] : [row.processedProb > 0 ? percent(row.processedProb) : "-"]),
    bar(row.prob * scale, width),
  ]);
  const last = titles.length - 1;
  return table(titles, rows, (cell, column, row) => {
    if (row < 0) return colour.bold(cell);
    return column === last ? colour.cyan(cell) : cell;
  });
}

function ofTable(of: readonly OfRow[]): string {
  const columns: Column[] = [
    { title: "of", max: 40 },
    { title: "ids", max: 24 },
    { title: "logprob", align: "right" },
    { title: "prob", align: "right" },
    { title: "rank", align: "right" },
  ];
  const rows = of.map(({ text, ids, logProb, rank }) => [
    visible(text),
    ids.join(" "),
    fixed(logProb, 4),
    percent(Math.exp(logProb)),
    rank === null ? "-" : String(rank),
  ]);
  return table(columns, rows);
}
