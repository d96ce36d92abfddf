import { checkFields, InputError } from "../errors.js";
import type { LinearHead } from "../head/linear.js";
import { fittingPositions } from "./fits.js";
import type { Runner } from "./runner.js";
import { predictedBytes } from "./score-bytes.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";
import type { Score, ScoredToken, ScoreOptions } from "./types.js";

/** Rows whose targets the head is asked about at a time. */
const ROWS_OF_AN_ASK = 1024;

/** A part of a text that is read at once: tokens [start, end), of which those from `predictFrom` on are predicted. */
export interface Window {
  readonly start: number;
  readonly end: number;
  readonly predictFrom: number;
}

/**
 * Windows over a text of `length` tokens, so that each but the first is predicted once, with the longest past that
 * windows of this size and stride give.
 */
export function scoreWindows(length: number, size: number, stride: number): Window[] {
  const windows: Window[] = [];
  let predicted = 1;
  for (let start = 0; predicted < length; start += stride) {
    const end = Math.min(length, start + size);
    windows.push({ start, end, predictFrom: predicted });
    predicted = end;
  }
  return windows;
}

/** What scoring needs of a model. */
export interface Scorer {
  readonly runner: Runner;
  readonly head: LinearHead;
  readonly tokenizer: Tokenizer | undefined;
}

/** What is scored. */
export interface ScoreInput {
  readonly ids: readonly number[];
  /** The text that the ids were made of; undefined when ids were given. */
  readonly text?: string;
}

/**
 * The log-probability and rank of each token given those before it; of a text longer than a window, given those
 * before it in its window.
 * @throws InputError for a text of no tokens, or a window or stride out of range
 */
export async function score(model: Scorer, input: ScoreInput, options: ScoreOptions): Promise<Score> {
  checkFields("score", options, ["window", "stride", "signal"]);
  const { runner, head, tokenizer } = model;
  const { ids } = input;
  const { signal } = options;
  const { window, stride } = windowOptions(options, runner, ids.length);
  const logProbs: (number | null)[] = [null];
  const ranks: (number | null)[] = [null];
  for (const { start, end, predictFrom } of scoreWindows(ids.length, window, stride)) {
    // The last token of a window is only predicted, never read.
    const cache = runner.cache();
    try {
      const [{ hidden }] = await runner.run([{ cache, ids: ids.slice(start, end - 1) }], {
        rows: "all",
        signal,
      });
      const D = runner.dim;
      for (let first = predictFrom; first < end; first += ROWS_OF_AN_ASK) {
        const last = Math.min(end, first + ROWS_OF_AN_ASK);
        const rows = hidden.subarray((first - 1 - start) * D, (last - 1 - start) * D);
        const targets = ids.slice(first, last).map((id) => [id]);
        const answer = await head.ask(rows, { logProbs: targets, rank: targets }, { signal });
        for (let i = 0; i < last - first; i++) {
          logProbs.push(answer.logProbs[i][0]);
          ranks.push(answer.rank[i][0]);
        }
      }
    } finally {
      cache.free();
    }
  }
  return summary(input, logProbs, ranks, tokenizer);
}

/** Options with their defaults: the longest window that the context, and the device's memory beside the weights, allow. */
function windowOptions(
  options: ScoreOptions,
  { maxPositions, device, program }: Runner,
  length: number,
): { window: number; stride: number } {
  // A window's last token takes no position: it is predicted, and nothing from it.
  const most = maxPositions + 1;
  const fitting = Math.max(2, Math.min(most, fittingPositions(device, program) + 1));
  const { window = fitting } = options;
  if (!Number.isInteger(window) || window < 2 || window > most)
    throw new InputError(`window: expected a whole number from 2 to ${most}, got ${window}`);
  if (Math.min(window, length) > fitting)
    throw new InputError(
      `window: the keys and values of ${Math.min(window, length)} tokens do not fit into the device's memory; expected at most ${fitting}, got ${window}`,
    );
  const { stride = Math.max(1, Math.floor(window / 2)) } = options;
  if (!Number.isInteger(stride) || stride < 1 || stride > window - 1)
    throw new InputError(`stride: expected a whole number from 1 to ${window - 1}, got ${stride}`);
  return { window, stride };
}

function summary(
  { ids, text: given }: ScoreInput,
  logProbs: readonly (number | null)[],
  ranks: readonly (number | null)[],
  tokenizer: Tokenizer | undefined,
): Score {
  const tokens: ScoredToken[] = [];
  const stream = tokenizer?.textStream();
  let sum = 0;
  for (const [i, id] of ids.entries()) {
    const text = stream?.push(id) ?? "";
    const rest = i === ids.length - 1 ? (stream?.end() ?? "") : "";
    sum += logProbs[i] ?? 0;
    tokens.push({ id, text: text + rest, logProb: logProbs[i], rank: ranks[i] });
  }
  const count = ids.length - 1;
  const bytes = tokenizer ? predictedBytes(tokenizer, ids, given) : 0;
  return {
    tokens,
    sum,
    count,
    perplexity: count > 0 ? Math.exp(-sum / count) : null,
    bitsPerByte: bytes > 0 ? -sum / Math.LN2 / bytes : null,
  };
}
