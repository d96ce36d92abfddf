import { Command, Option } from "commander";
import { InputError } from "../../errors.js";
import type { LanguageModel } from "../../node.js";
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
import { bar, colours, fixed, json, percent, table, visible } from "../render.js";

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
  const { vocabSize } = model.head;
  if (flags.top > vocabSize)
    throw new InputError(
      `--top: expected from 1 to ${vocabSize}, the size of the vocabulary, got ${flags.top}`,
    );
  const next = await model.next({ ids: promptIds }, { signal });
  const top: TopRow[] = await next.top(flags.top);
  const logSumExp = await next.logSumExp();
  const entropy = await next.entropy();
  const of: OfRow[] = [];
  for (const text of flags.of ?? []) of.push(await answerOf(model, next, promptIds, text, signal));
}
