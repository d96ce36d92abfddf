import { AbortError, checkFields, InputError } from "../errors.js";
import type { LinearHead } from "../head/linear.js";
import { checkSuppressed, SAMPLING_FIELDS, type Sampling, samplingOf } from "../sampling/options.js";
import type { Place } from "../sampling/pick.js";
import { StopDetector } from "../sampling/stopping.js";
import { type Chosen, nextToken } from "./next-token.js";
import type { Runner } from "./runner.js";
import { Session } from "./session.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";
import type { FinishReason, Generated, GenerateOptions, Piece } from "./types.js";

const DEFAULT_NEW_TOKENS = 128;

/** What generation needs of a model. */
export interface Generator {
  readonly runner: Runner;
  readonly head: LinearHead;
  readonly tokenizer: Tokenizer | undefined;
  readonly eosIds: readonly number[];
}

/** Checked options, every default filled in. */
export interface GeneratePlan {
  readonly sampling: Sampling;
  readonly maxNewTokens: number;
  readonly ignoreEos: boolean;
  readonly stops: readonly string[];
  readonly alternatives: number;
  readonly rank: boolean;
  readonly sequence: number;
  readonly signal?: AbortSignal;
}

/**
 * Options with what a model's generation config says where they say nothing. Who asks for a temperature, a filter or a
 * seed asks for a sample: a config's `do_sample: false` does not hold against it, but its temperature and filters do.
 * @param vocabSize ids that the head answers about
 * @throws InputError for an unknown option or one out of its range
 */
export function planGeneration(
  options: GenerateOptions,
  defaults: GenerateOptions,
  vocabSize: number,
): GeneratePlan {
  const fields = ["maxNewTokens", "ignoreEos", "stop", "alternatives", "rank", "sequence", "signal"];
  checkFields("generate", options, [...SAMPLING_FIELDS, ...fields]);
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const samples = ["temperature", "topK", "topP", "minP", "seed"].some((field) => field in given);
  const merged: GenerateOptions = { ...defaults, ...(samples && { greedy: false }), ...given };
  const { maxNewTokens = DEFAULT_NEW_TOKENS, ignoreEos = false, stop = [], rank = false } = merged;
  const { alternatives = 0, sequence = 0 } = merged;
  checkWhole("maxNewTokens", maxNewTokens, 1);
  checkWhole("alternatives", alternatives, 0);
  checkWhole("sequence", sequence, 0);
  const stops = typeof stop === "string" ? [stop] : stop;
  if (!Array.isArray(stops) || !stops.every((text) => typeof text === "string" && text !== ""))
    throw new InputError("stop: expected a string or strings, none of them empty");
  const sampling = samplingOf(Object.fromEntries(SAMPLING_FIELDS.map((field) => [field, merged[field]])));
  const fromFile = given.suppressTokens === undefined;
  checkSuppressed(sampling, vocabSize, fromFile ? "generation_config.json: suppress_tokens" : undefined);
  return { sampling, maxNewTokens, ignoreEos, stops, alternatives, rank, sequence, signal: merged.signal };
}

/** @throws InputError for anything but a whole number in [min, 2^31) */
export function checkWhole(name: string, value: number, min: number): void {
  if (!Number.isInteger(value) || value < min || value > 2 ** 31 - 1)
    throw new InputError(
      `${name}: expected a whole number from ${min}, got ${JSON.stringify(value) ?? value}`,
    );
}

/**
 * Tokens after a prompt, one by one. The last piece has a `finishReason`; an abort throws.
 * @throws AbortError, InputError
 */
export async function* generate(
  model: Generator,
  promptIds: readonly number[],
  plan: GeneratePlan,
): AsyncGenerator<Piece, void, undefined> {
  const { signal } = plan;
  const growing = new GrowingSequence(model, promptIds, plan, plan.sequence);
  const session = Session.start(model.runner);
  try {
    let hidden = await session.feed(promptIds, { signal });
    for (;;) {
      const chosen = await nextToken(model.head, hidden, plan.sampling, growing.place, plan, signal);
      const { text, finishReason } = growing.push(chosen.id);
      yield piece(chosen, text, finishReason, model.tokenizer);
      if (finishReason !== undefined) return;
      hidden = await session.feed([chosen.id], { signal });
    }
  } finally {
    session.close();
  }
}

/** A sequence while it is generated: takes the tokens chosen, gives their text and says when it ends. */
export class GrowingSequence {
  private readonly ids: number[];
  private readonly text: GeneratedText;
  private step = 0;

  /**
   * @param sequence which of several samples of one seed this is
   * @throws InputError for stop strings without a tokenizer
   */
  constructor(
    private readonly model: Generator,
    promptIds: readonly number[],
    private readonly plan: GeneratePlan,
    private readonly sequence: number,
  ) {
    const { tokenizer } = model;
    if (plan.stops.length > 0 && !tokenizer)
      throw new InputError("stop: the model has no tokenizer, so there is no text in which to find it");
    this.ids = [...promptIds];
    this.text = new GeneratedText(tokenizer, promptIds, plan.stops);
  }

  /** Where the next token will stand. */
  get place(): Place {
    return { sequence: this.sequence, step: this.step, context: this.ids };
  }

  /** Takes the next token; gives the text that became certain, and the reason when this was the last. */
  push(id: number): { readonly text: string; readonly finishReason?: Exclude<FinishReason, "abort"> } {
    const { plan, model } = this;
    // All but the new token have been read.
    const full = this.ids.length >= model.runner.maxPositions;
    this.ids.push(id);
    this.step++;
    // An end token ends the text and is no part of it.
    if (!plan.ignoreEos && model.eosIds.includes(id))
      return { text: this.text.end().text, finishReason: "eos" };
    const { text, stopped } = this.text.push(id);
    if (stopped) return { text, finishReason: "stop" };
    if (this.step < plan.maxNewTokens && !full) return { text };
    // A stop string may be completed by what waited for the end.
    const rest = this.text.end();
    return { text: text + rest.text, finishReason: rest.stopped ? "stop" : "length" };
  }
}

function piece(
  { alternatives, ...chosen }: Chosen,
  text: string,
  finishReason: FinishReason | undefined,
  tokenizer: Tokenizer | undefined,
): Piece {
  const listed = alternatives?.map(({ id, logProb }) => ({
    id,
    token: tokenizer?.tokenText(id) ?? "",
    logProb,
  }));
  return {
    ...chosen,
    text,
    ...(listed && { alternatives: listed }),
    ...(finishReason !== undefined && { finishReason }),
  };
}

/** New ids to text: whole characters only, and nothing of a stop string. */
class GeneratedText {
  private readonly stream;
  private readonly stop: StopDetector;

  constructor(tokenizer: Tokenizer | undefined, promptIds: readonly number[], stops: readonly string[]) {
    this.stream = tokenizer?.textStream({ skipSpecialTokens: true, after: promptIds });
    this.stop = new StopDetector(stops);
  }

  push(id: number): { readonly text: string; readonly stopped: boolean } {
    return this.stop.push(this.stream?.push(id) ?? "");
  }

  end(): { readonly text: string; readonly stopped: boolean } {
    const last = this.stop.push(this.stream?.end() ?? "");
    const held = this.stop.end();
    return { text: last.text + held.text, stopped: held.stopped };
  }
}

/** Runs a generation to its end; an abort ends it with what there is. */
export async function collect(
  pieces: AsyncIterable<Piece>,
  promptIds: readonly number[],
): Promise<Generated> {
  const ids: number[] = [];
  const logProbs: number[] = [];
  let text = "";
  let finishReason: FinishReason = "abort";
  const start = performance.now();
  let first: number | undefined;
  try {
    for await (const piece of pieces) {
      first ??= performance.now();
      ids.push(piece.id);
      logProbs.push(piece.logProb);
      text += piece.text;
      if (piece.finishReason) finishReason = piece.finishReason;
    }
  } catch (error) {
    if (!(error instanceof AbortError)) throw error;
  }
  const end = performance.now();
  const timing = {
    prefillMs: (first ?? end) - start,
    decodeMs: end - (first ?? end),
    decodeTokens: Math.max(0, ids.length - 1),
  };
  return { promptIds: [...promptIds], ids, text, logProbs, finishReason, timing };
}
