import { bodyMatrices } from "../body/upload.js";
import { checkFields, InputError } from "../errors.js";
import { Distribution } from "../head/distribution.js";
import type { LinearHead } from "../head/linear.js";
import type { Device } from "../kernels/device.js";
import type { Embedding } from "../vocab/embedding.js";
import { continuationIds } from "./continuation.js";
import { embeddedFiles } from "./embedded.js";
import { collect, generate, planGeneration } from "./generate.js";
import { generateMany, planMany } from "./generate-many.js";
import { loadModel, type ModelParts, type StoredFolder } from "./load.js";
import { promptIds } from "./prompt.js";
import type { Runner } from "./runner.js";
import { score } from "./score.js";
import { Session } from "./session.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";
import type {
  CallOptions,
  Generated,
  GeneratedOne,
  GenerateManyOptions,
  GenerateOptions,
  HiddenOptions,
  HiddenStates,
  LoadOptions,
  ModelFiles,
  ModelInfo,
  Piece,
  Prompt,
  Score,
  ScoreOptions,
} from "./types.js";

/**
 * A language model: tokenizer, embedding, body and head, loaded onto a device. Every method that computes is a promise
 * and takes an `AbortSignal`; calls are queued on the device in the order in which they were made. A long prompt is queued
 * in parts, between which other calls may come; those of one session follow each other whole.
 */
export class LanguageModel {
  readonly name: string;
  /** Undefined when the files have none: then prompts are ids. */
  readonly tokenizer: Tokenizer | undefined;
  /** The head's own asks, about any hidden states. */
  readonly head: LinearHead;
  readonly embedding: Embedding;
  readonly device: Device;
  /** What generation_config.json says; `generate` goes by it where no option says otherwise. Empty without one. */
  readonly generationDefaults: GenerateOptions;
  readonly eosIds: readonly number[];
  /** Milliseconds that loading took. */
  readonly loadMs: number;
  /** Runs ids through embedding and body; `generate` and its kin are made of it. */
  readonly runner: Runner;
  /** What `modelFiles` writes beside the weights; undefined unless the model came from a Hugging Face folder, in float32. */
  readonly folder: StoredFolder | undefined;
  private readonly parts: ModelParts;
  private closed: Promise<void> | undefined;

  /** From parts that `loadModel` made; `LanguageModel.load` is the way to a model. */
  constructor(parts: ModelParts) {
    this.parts = parts;
    this.runner = parts.runner;
    this.name = parts.name;
    this.tokenizer = parts.tokenizer;
    this.head = parts.head;
    this.embedding = parts.runner.embedding;
    this.device = parts.device;
    this.generationDefaults = parts.generation.defaults;
    this.eosIds = parts.generation.eosIds;
    this.loadMs = parts.loadMs;
    this.folder = parts.folder;
  }

  /**
   * Loads a Hugging Face folder (config.json, safetensors, tokenizer.json) or a GGUF file. In Node a path is enough.
   * @param files default: the model inside the package, models/tiny-gpt (see its card)
   * @throws InputError for anything wrong with the files or options, or a model that does not fit
   */
  static async load(files?: ModelFiles, options: LoadOptions = {}): Promise<LanguageModel> {
    return new LanguageModel(await loadModel(files === undefined ? await embeddedFiles() : files, options));
  }

  /** Context length. */
  get maxPositions(): number {
    return this.runner.maxPositions;
  }

  /** Facts about the model, its vocabulary and where it runs. */
  info(): ModelInfo {
    return { ...this.parts.facts, memory: this.device.memory, device: this.device.description };
  }

  /** Ids of a text, with what the tokenizer adds (BOS by its config). @throws InputError without a tokenizer */
  encode(text: string): number[] {
    return this.needTokenizer().encode(text);
  }

  /** Text of ids, special tokens included. @throws InputError without a tokenizer, or for an unknown id */
  decode(ids: ArrayLike<number>): string {
    return this.needTokenizer().decode(ids);
  }

  /** One token's text for people; "" when nobody knows it. */
  token(id: number): string {
    return this.tokenizer?.tokenText(id) ?? "";
  }

  /**
   * A prompt's ids: text by the tokenizer with what it adds, `{ ids }` as they are.
   * @throws InputError for an empty prompt, an id outside the vocabulary, or more tokens than the context holds
   */
  promptIds(input: Prompt): number[] {
    return this.ids(input, this.maxPositions);
  }

  /** Hidden states of a prompt's tokens, and of the layers asked for. @throws InputError, AbortError */
  async hidden(input: Prompt, options: HiddenOptions = {}): Promise<HiddenStates> {
    checkFields("hidden", options, ["layers", "signal"]);
    const ids = this.promptIds(input);
    const last = this.runner.body.layers.length;
    const asked = options.layers ?? [];
    const layers = asked === "all" ? Array.from({ length: last + 1 }, (_, l) => l) : [...new Set(asked)];
    for (const layer of layers)
      if (!Number.isInteger(layer) || layer < 0 || layer > last)
        throw new InputError(`layers: expected whole numbers from 0 to ${last}, got ${layer}`);
    const cache = this.runner.cache();
    try {
      const [fed] = await this.runner.run([{ cache, ids }], { rows: "all", layers, signal: options.signal });
      return { ids, ...fed };
    } finally {
      cache.free();
    }
  }

  /** What comes after a prompt; of several prompts, of any lengths, in one packed call. @throws InputError, AbortError */
  next(input: Prompt, options?: CallOptions): Promise<Distribution>;
  next(input: readonly Prompt[], options?: CallOptions): Promise<Distribution[]>;
  async next(
    input: Prompt | readonly Prompt[],
    options: CallOptions = {},
  ): Promise<Distribution | Distribution[]> {
    checkFields("next", options, ["signal"]);
    const isList = (given: Prompt | readonly Prompt[]): given is readonly Prompt[] => Array.isArray(given);
    const prompts = isList(input) ? input : [input];
    const feeds = prompts
      .map((prompt) => this.promptIds(prompt))
      .map((ids) => ({ ids, cache: this.runner.cache() }));
    try {
      const fed = await this.runner.run(feeds, { signal: options.signal });
      const distributions = fed.map(({ hidden }, i) => this.distribution(hidden, feeds[i].ids));
      return isList(input) ? distributions : distributions[0];
    } finally {
      for (const { cache } of feeds) cache.free();
    }
  }

  /**
   * Tokens after a prompt, as they come. Greedy or sampled by `options` and, where they say nothing, by the model's
   * generation_config.json, which is greedy unless it says `do_sample`, as in transformers; without one a sample at
   * temperature 1. An option that only a sample needs (temperature, filter, seed) asks for one. The same seed gives the
   * same text.
   * @throws InputError at once, for the prompt or an option; AbortError from the iterator when `signal` fires
   */
  generate(input: Prompt, options: GenerateOptions = {}): AsyncGenerator<Piece, void, undefined> {
    const plan = planGeneration(options, this.generationDefaults, this.head.vocabSize);
    const { runner, head, tokenizer, eosIds } = this;
    return generate({ runner, head, tokenizer, eosIds }, this.promptIds(input), plan);
  }

  /** All of a generation at once; an abort gives what there was, with finishReason "abort". @throws InputError */
  async generateAll(input: Prompt, options: GenerateOptions = {}): Promise<Generated> {
    const ids = this.promptIds(input);
    return collect(this.generate({ ids }, options), ids);
  }

  /**
   * Generates after many prompts at once: up to `batchSize` sequences stand side by side in every call of the device,
   * and where one ends the next prompt takes its place. Each result has the ids, text and log-probabilities of
   * `generateAll` alone with `sequence: index`. Results come as they are ready, not in the order of the prompts; `index`
   * says whose each is. Prompts are read as places become free, and nothing runs while the caller is busy with a result.
   *
   * The head is read once a step for all rows, and again for the few whose answer that leaves open (ties, a draw that
   * fell on a suppressed token). With top-p but no top-k, or a penalty below 1, the whole logits of every row leave the
   * head and are processed row by row: slower, more so for a large vocabulary.
   * @throws InputError at once for an option, from the iterator for a prompt, which the message names by its index;
   * AbortError from the iterator when `signal` fires. Either ends it, and what was not yet ready is lost.
   */
  generateMany(
    prompts: Iterable<Prompt> | AsyncIterable<Prompt>,
    options: GenerateManyOptions = {},
  ): AsyncGenerator<GeneratedOne, void, undefined> {
    const plan = planMany(options, this.generationDefaults, this.head.vocabSize);
    const { runner, head, tokenizer, eosIds } = this;
    return generateMany(
      { runner, head, tokenizer, eosIds },
      prompts,
      (prompt) => this.promptIds(prompt),
      plan,
    );
  }

  /** Log-probability and rank of each token of a text of any length. @throws InputError, AbortError */
  score(input: Prompt, options: ScoreOptions = {}): Promise<Score> {
    const { runner, head, tokenizer } = this;
    const text = typeof input === "string" ? input : undefined;
    return score({ runner, head, tokenizer }, { ids: this.ids(input, undefined), text }, options);
  }

  /** An empty sequence with its cache; `close` it after use. */
  session(): Session {
    return Session.start(this.runner);
  }

  /** Gives the weights' memory back, and ends the device when the model opened it. Twice is as good as once. */
  close(): Promise<void> {
    this.closed ??= this.end();
    return this.closed;
  }

  private async end(): Promise<void> {
    if (this.parts.ownsDevice) return this.device.close();
    const matrices = [
      this.embedding.vocab.matrix,
      this.head.weights.matrix,
      ...bodyMatrices(this.runner.body),
    ];
    for (const matrix of new Set(matrices)) matrix.free();
  }

  private needTokenizer(): Tokenizer {
    if (this.tokenizer) return this.tokenizer;
    throw new InputError(`${this.name}: has no tokenizer: give ids`);
  }

  private ids(input: Prompt, maxPositions: number | undefined): number[] {
    const { tokenizer } = this;
    return promptIds(input, {
      encode: tokenizer && ((text) => tokenizer.encode(text)),
      vocabSize: this.head.vocabSize,
      maxPositions,
    });
  }

  private distribution(hidden: Float32Array, ids: readonly number[]): Distribution {
    const { tokenizer } = this;
    const text = tokenizer && {
      encode: (text: string) => continuationIds(tokenizer, text, ids),
      tokenText: (id: number) => tokenizer.tokenText(id),
    };
    return new Distribution(this.head, hidden, {
      text,
      ids,
      continuation: (more, options) => this.continuation(ids, more, options),
    });
  }

  /** Hidden states [more.length, D] from which each of `more` is predicted, after `ids` and those before it. */
  private async continuation(
    ids: readonly number[],
    more: readonly number[],
    options: CallOptions,
  ): Promise<Float32Array> {
    const all = [...ids, ...more];
    // The last token is predicted, but not read.
    if (all.length > this.maxPositions + 1)
      throw new InputError(
        `the prompt and the text after it have ${all.length} tokens; the model's context holds ${this.maxPositions}`,
      );
    const { hidden } = await this.hidden({ ids: all.slice(0, -1) }, { signal: options.signal });
    return hidden.subarray((ids.length - 1) * this.runner.dim);
  }
}
