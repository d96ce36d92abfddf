import { Command, Option } from "commander";
import { AbortError, InputError } from "../../errors.js";
import type { FinishReason, GenerateOptions, LanguageModel, Piece } from "../../node.js";
import { type Loaded, ProgressLine, withModel } from "../load.js";
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
  type SeedFlag,
  samplingOf,
  seedOption,
  wholeNumber,
} from "../options.js";
import { colours, json, percent, safe, table, visible } from "../render.js";

interface Flags extends ModelFlags, JsonFlag, SamplingFlags, SeedFlag {
  readonly ids?: number[];
  readonly maxNewTokens?: number;
  readonly greedy?: boolean;
  readonly ignoreEos?: boolean;
  readonly stop?: string[];
  readonly alternatives?: number;
}

const example = 'lmhead generate "Once upon a time"';

/** `lmhead generate`: text that goes on, piece by piece. */
export function generateCommand(signal: AbortSignal): Command {
  const command = new Command("generate")
    .description("continue a prompt")
    .argument("[prompt]", "the text to continue")
    .addOption(idsOption())
    .option(
      "-n, --max-new-tokens <n>",
      "at most N new tokens (default: generation_config.json's, else 128)",
      wholeNumber("--max-new-tokens", { min: 1 }),
    )
    .option("--greedy", "the likeliest token every time");
  addSamplingOptions(command)
    .addOption(seedOption())
    .option("--ignore-eos", "go on after an end token")
    .addOption(
      new Option("--stop <text>", "end before this text; may be repeated").argParser<string[] | undefined>(
        repeated("--stop"),
      ),
    )
    .option(
      "--alternatives <n>",
      "list the N likeliest tokens at each step",
      wholeNumber("--alternatives", { min: 0 }),
    );
  return addModelOptions(command)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Examples:
  ${example}
  lmhead generate "Once upon a time" --temperature 0.8 --top-p 0.95 --seed 1

What no flag says comes from the model's generation_config.json, when it has one: greedy unless it says "do_sample".
Without flags and file a token is drawn by the model's own probabilities. --temperature, the filters and --seed ask for
a random choice, in which the file's temperature and filters hold where no flag says otherwise.
JSON: { "promptIds", "outputs": [{ "ids", "text", "logProbs", "finishReason" }], "timing": { "loadMs",
"prefillMs", "decodeMs", "decodeTokens" } }; log-probabilities are raw, "finishReason" is eos, stop, length or abort.`,
    )
    .action(async (text: string | undefined, flags: Flags) => {
      const prompt = promptOf(text, flags.ids, example);
      const options = generateOptions(flags);
      await withModel(flags, signal, (loaded) => run(loaded, prompt, options, flags.json === true, signal));
    });
}

/** Flags that ask for a random choice. */
const randomFlags = ["temperature", "topK", "topP", "minP", "seed"] as const;

/** The flags as the library's options; what was not given stays out, so that generation_config.json may fill it. */
export function generateOptions(flags: Flags): GenerateOptions {
  const sampling = samplingOf(flags);
  const random = randomFlags.find((name) => flags[name] !== undefined);
  if (flags.greedy && random !== undefined && random !== "seed") {
    const flag = random.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new InputError(`--greedy takes the likeliest token: --${flag} changes nothing; give one of them`);
  }
  // A file that says "greedy" must not silence a flag that asks for a sample.
  const greedy = flags.greedy ?? (random === undefined ? undefined : false);
  const { seed, maxNewTokens, ignoreEos, stop, alternatives } = flags;
  const rest = Object.entries({ greedy, seed, maxNewTokens, ignoreEos, stop, alternatives });
  return { ...sampling, ...Object.fromEntries(rest.filter(([, value]) => value !== undefined)) };
}

interface Gathered {
  readonly pieces: Piece[];
  finishReason: FinishReason;
  prefillMs: number;
  decodeMs: number;
}

async function run(
  { model, loadMs }: Loaded,
  prompt: Prompt,
  options: GenerateOptions,
  asJson: boolean,
  signal: AbortSignal,
): Promise<void> {
  const promptIds = model.promptIds(prompt);
  const out = process.stdout;
  const write = (text: string): void => void out.write(out.isTTY ? safe(text) : text);
  const made = await gather(model, promptIds, { ...options, signal }, asJson ? () => {} : write);
  const decodeTokens = Math.max(0, made.pieces.length - 1);
  if (!asJson) {
    if (made.pieces.length > 0) out.write("\n");
    if (options.alternatives) out.write(`\n${alternativesTable(made.pieces)}\n`);
    summary(made, decodeTokens);
    return;
  }
  const output = {
    ids: made.pieces.map(({ id }) => id),
    text: made.pieces.map(({ text }) => text).join(""),
    logProbs: made.pieces.map(({ logProb }) => logProb),
    finishReason: made.finishReason,
    ...(options.alternatives ? { alternatives: made.pieces.map((piece) => piece.alternatives ?? []) } : {}),
  };
  const { prefillMs, decodeMs } = made;
  out.write(
    `${json({ promptIds, outputs: [output], timing: { loadMs, prefillMs, decodeMs, decodeTokens } })}\n`,
  );
}

/** Runs to the end or to an abort; what came before an abort is kept. */
async function gather(
  model: LanguageModel,
  ids: number[],
  options: GenerateOptions,
  onText: (text: string) => void,
): Promise<Gathered> {
  const progress = new ProgressLine();
  const made: Gathered = { pieces: [], finishReason: "abort", prefillMs: 0, decodeMs: 0 };
  const start = performance.now();
  progress.show(`reading ${ids.length} tokens`);
  try {
    for await (const piece of model.generate({ ids }, options)) {
      const now = performance.now();
      if (made.pieces.length === 0) {
        progress.clear();
        made.prefillMs = now - start;
      }
      made.decodeMs = now - start - made.prefillMs;
      made.pieces.push(piece);
      onText(piece.text);
      if (piece.finishReason) made.finishReason = piece.finishReason;
    }
  } catch (error) {
    if (!(error instanceof AbortError)) throw error;
  } finally {
    progress.clear();
  }
  return made;
}

function alternativesTable(pieces: readonly Piece[]): string {
  const rows = pieces.map(({ id, logProb, alternatives = [] }) => [
    String(id),
    percent(Math.exp(logProb)),
    alternatives.map(({ token, logProb: log }) => `${visible(token)} ${percent(Math.exp(log))}`).join("  "),
  ]);
  const columns = [
    { title: "id", align: "right" },
    { title: "prob", align: "right" },
    { title: "likeliest" },
  ] as const;
  return table(columns, rows);
}

/** One dim line for the person who watches; a pipe gets the text alone. */
function summary(made: Gathered, decodeTokens: number): void {
  if (!process.stderr.isTTY) return;
  const speed = decodeTokens > 0 ? `, ${((1000 * decodeTokens) / made.decodeMs).toFixed(1)} tokens/s` : "";
  const line = `${made.pieces.length} tokens${speed}, ended by ${made.finishReason}`;
  process.stderr.write(`${colours(process.stderr).dim(line)}\n`);
}
