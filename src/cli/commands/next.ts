import { Command, Option } from "commander";
import { InputError } from "../../errors.js";
import { type Distribution, idsOf } from "../../head/distribution.js";
import { ProcessedDistribution } from "../../sampling/processed.js";
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

const example = 'lmhead next "The cat sat on the"';

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
  lmhead next "The cat sat on the" --of " mat" --of " dog" --json
  lmhead next "The cat sat on the" --explain

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
  const { vocabSize } = model.head;
  if (flags.top > vocabSize)
    throw new InputError(
      `--top: expected from 1 to ${vocabSize}, the size of the vocabulary, got ${flags.top}`,
    );
  const next = await model.next({ ids: promptIds }, { signal });
  const answer = await askNext(next, promptIds, flags, signal);
  const { logSumExp, entropy, top } = answer;
  const of = await answersOf(next, flags.of ?? [], signal);
  const out = process.stdout;
  const colour = colours(out);
  if (flags.json) out.write(`${json({ promptIds, logSumExp, entropy, top, of })}\n`);
  else if (flags.explain) {
    const { hidden, layers } = await model.hidden({ ids: promptIds }, { layers: [0], signal });
    const facts = {
      text: typeof prompt === "string" ? prompt : undefined,
      ids: promptIds,
      tokens: promptIds.map((id) => next.context.text?.tokenText(id) ?? ""),
      info: model.info(),
      vectors: layers.get(0)!,
      hidden,
      logits: await next.logits({ signal }),
    };
    out.write(`${explain({ ...facts, logSumExp, entropy, top }, colour)}\n`);
  } else out.write(`${topTable(top, out.columns ?? 80, colour)}\n`);
  if (!flags.json && of.length > 0) out.write(`\n${ofTable(of)}\n`);
  if (!flags.json && !flags.explain)
    out.write(`\nlog-sum-exp ${fixed(logSumExp, 4)}, entropy ${fixed(entropy, 4)} nats\n`);
}

/** Top, log-sum-exp and entropy in one pass over the vocabulary; the processed fields when options ask for them. */
async function askNext(
  next: Distribution,
  promptIds: number[],
  flags: Flags,
  signal: AbortSignal,
): Promise<{ logSumExp: number; entropy: number; top: TopRow[] }> {
  const ask = { topK: flags.top, logSumExp: true, entropy: true } as const;
  const answer = await next.head.ask(next.hidden, ask, { signal });
  const [logSumExp] = answer.logSumExp;
  const [{ ids, logits }] = answer.topK;
  const sampling = samplingOf(flags);
  const processed =
    Object.keys(sampling).length > 0
      ? await ProcessedDistribution.of(next, sampling, promptIds, { signal })
      : undefined;
  const top: TopRow[] = [];
  for (const [i, id] of ids.entries()) {
    const logProb = logits[i] - logSumExp;
    const raw = {
      id,
      token: next.context.text?.tokenText(id) ?? "",
      logit: logits[i],
      logProb,
      prob: Math.exp(logProb),
    };
    if (!processed) top.push(raw);
    else {
      const processedLogProb = await processed.logProb(id);
      top.push({ ...raw, processedLogProb, processedProb: Math.exp(processedLogProb) });
    }
  }
  return { logSumExp, entropy: answer.entropy[0], top };
}

/** Each text after the prompt: one token from the distribution, several by the chain rule. */
async function answersOf(
  next: Distribution,
  texts: readonly string[],
  signal: AbortSignal,
): Promise<OfRow[]> {
  const rows: OfRow[] = [];
  for (const text of texts) {
    const ids = idsOf(text, next.context.text);
    const one = ids.length === 1 ? ids[0] : undefined;
    const logProb = await next.logProb(one ?? text, { signal });
    rows.push({ text, ids, logProb, rank: one === undefined ? null : await next.rank(one, { signal }) });
  }
  return rows;
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
