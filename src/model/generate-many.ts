import { AbortError, checkFields, InputError } from "../errors.js";
import type { KvCache } from "../kernels/device.js";
import { Breather } from "../kernels/reference/breather.js";
import { SAMPLING_FIELDS } from "../sampling/options.js";
import { chooseScoredRows } from "../sampling/sampler.js";
import {
  checkWhole,
  type GeneratePlan,
  type Generator,
  GrowingSequence,
  planGeneration,
} from "./generate.js";
import type { GeneratedOne, GenerateManyOptions, GenerateOptions, Prompt } from "./types.js";

const DEFAULT_BATCH = 32;

/** Checked options of `generateMany`, every default filled in. */
export interface ManyPlan extends GeneratePlan {
  readonly batchSize: number;
}

/** @throws InputError for an unknown option or one out of its range */
export function planMany(
  options: GenerateManyOptions,
  defaults: GenerateOptions,
  vocabSize: number,
): ManyPlan {
  const fields = ["maxNewTokens", "ignoreEos", "stop", "signal", "batchSize"];
  checkFields("generateMany", options, [...SAMPLING_FIELDS, ...fields]);
  const { batchSize = DEFAULT_BATCH, ...rest } = options;
  checkWhole("batchSize", batchSize, 1);
  return { ...planGeneration(rest, defaults, vocabSize), batchSize };
}

/** A prompt's place in the batch. */
interface Running {
  readonly index: number;
  readonly cache: KvCache;
  readonly growing: GrowingSequence;
  readonly promptIds: number[];
  readonly ids: number[];
  readonly logProbs: number[];
  text: string;
}

/**
 * Generates after many prompts with continuous batching (as in Yu et al. 2022, "Orca"): a step feeds every sequence, new
 * ones their prompt and the others their last token, in one packed call, and asks the head once for all.
 * @param prompts a text alone, or one prompt that is no list of them, is an error
 * @throws InputError at once for `prompts`; otherwise as `LanguageModel.generateMany` says
 */
export function generateMany(
  model: Generator,
  prompts: Iterable<Prompt> | AsyncIterable<Prompt>,
  promptIds: (prompt: Prompt) => number[],
  plan: ManyPlan,
): AsyncGenerator<GeneratedOne, void, undefined> {
  const iterable =
    typeof prompts === "object" &&
    prompts !== null &&
    (Symbol.asyncIterator in prompts || Symbol.iterator in prompts);
  if (!iterable)
    throw new InputError(
      `prompts: expected a list of prompts, or another iterable, got ${typeof prompts === "string" ? "one text" : typeof prompts}; give a single prompt as [prompt]`,
    );
  return batches(model, new PromptReader(prompts), promptIds, plan);
}

async function* batches(
  model: Generator,
  reader: PromptReader,
  promptIds: (prompt: Prompt) => number[],
  plan: ManyPlan,
): AsyncGenerator<GeneratedOne, void, undefined> {
  const running = new Set<Running>();
  let count = 0;
  try {
    const breather = new Breather(plan.signal);
    for (;;) {
      // A device that runs on this thread may never let a timer run between two steps.
      await breather.pause();
      breather.stopIfPointless();
      while (running.size < plan.batchSize) {
        const next = await reader.take(running.size === 0, plan.signal);
        if (!next) break;
        const index = count++;
        const ids = named(index, () => promptIds(next.prompt));
        const growing = new GrowingSequence(model, ids, plan, index);
        const cache = model.runner.cache();
        running.add({ index, cache, growing, promptIds: ids, ids: [], logProbs: [], text: "" });
      }
      if (running.size === 0) return;
      const ended: GeneratedOne[] = [];
      for (const [sequence, finishReason] of await step(model, [...running], plan)) {
        running.delete(sequence);
        sequence.cache.free();
        const { index, promptIds, ids, text, logProbs } = sequence;
        ended.push({ index, promptIds, ids, text, logProbs, finishReason });
      }
      yield* ended;
    }
  } finally {
    for (const { cache } of running) cache.free();
    await reader.close();
  }
}

/** One token for every sequence; gives those that it ended. */
async function step(
  { runner, head }: Generator,
  running: readonly Running[],
  { sampling, signal }: ManyPlan,
): Promise<[Running, GeneratedOne["finishReason"]][]> {
  const feeds = running.map(({ cache, promptIds, ids }) => ({
    cache,
    ids: ids.length === 0 ? promptIds : ids.slice(-1),
  }));
  const fed = await runner.run(feeds, { signal });
  const hidden = new Float32Array(running.length * runner.dim);
  for (const [row, { hidden: last }] of fed.entries()) hidden.set(last, row * runner.dim);
  const places = running.map(({ growing }) => growing.place);
  const chosen = await chooseScoredRows(head, hidden, sampling, places, signal);
  const ended: [Running, GeneratedOne["finishReason"]][] = [];
  for (const [row, sequence] of running.entries()) {
    const { id, logProb } = chosen[row];
    const { text, finishReason } = sequence.growing.push(id);
    sequence.ids.push(id);
    sequence.logProbs.push(logProb);
    sequence.text += text;
    if (finishReason) ended.push([sequence, finishReason]);
  }
  return ended;
}

/** Says in an error's message which prompt it is about. */
function named<T>(index: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof InputError)
      throw new InputError(`prompt ${index} (counted from 0): ${error.message}`, { cause: error });
    throw error;
  }
}

/** Reads prompts one at a time, and need not wait for a source that takes its time. */
class PromptReader {
  private readonly iterator: Iterator<Prompt> | AsyncIterator<Prompt>;
  private coming: Promise<void> | undefined;
  private came: { readonly result: IteratorResult<Prompt> } | { readonly error: unknown } | undefined;
  private done = false;

  constructor(prompts: Iterable<Prompt> | AsyncIterable<Prompt>) {
    this.iterator =
      Symbol.asyncIterator in prompts ? prompts[Symbol.asyncIterator]() : prompts[Symbol.iterator]();
  }

  /**
   * The next prompt; undefined when there are no more.
   * @param wait false: undefined also when none is there yet; ask again later
   * @throws what the source throws; AbortError
   */
  async take(wait: boolean, signal?: AbortSignal): Promise<{ readonly prompt: Prompt } | undefined> {
    if (this.done) return undefined;
    const fresh = this.coming === undefined;
    this.coming ??= this.ask();
    if (wait) await unlessAborted(this.coming, signal);
    // Who has one ready gets it in after a few microtasks; what was asked for earlier has had a step's time.
    else if (fresh) await Promise.race([this.coming, new Promise((resolve) => setTimeout(resolve, 0))]);
    const { came } = this;
    if (!came) return undefined;
    this.coming = undefined;
    this.came = undefined;
    this.done = "error" in came || came.result.done === true;
    if ("error" in came) throw came.error;
    return came.result.done ? undefined : { prompt: came.result.value };
  }

  /** Tells a source that is not at its end that nothing more is wanted. */
  async close(): Promise<void> {
    if (this.done) return;
    this.done = true;
    const closed = (async () => this.iterator.return?.())();
    // A generator that is waiting for its own source closes only after that, perhaps never.
    if (this.coming && !this.came) closed.catch(() => {});
    else await closed;
  }

  private async ask(): Promise<void> {
    try {
      this.came = { result: await this.iterator.next() };
    } catch (error) {
      this.came = { error };
    }
  }
}

/** @throws AbortError as soon as the signal fires, however long `work` takes */
async function unlessAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(new AbortError(signal));
  });
  signal?.addEventListener("abort", abort, { once: true });
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}
