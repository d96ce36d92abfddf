import { checkFields, InputError, throwIfAborted } from "../errors.js";
import type { SamplingOptions } from "../sampling/options.js";
import { ProcessedDistribution } from "../sampling/processed.js";
import type { AskSample, CallOptions } from "./ask.js";
import type { LinearHead } from "./linear.js";
import { idsOf, likelihood, oneId, type TokenText } from "./tokens.js";

export { idsOf, type TokenText } from "./tokens.js";

/** A token and how likely it is. */
export interface RankedToken {
  readonly id: number;
  /** Its text; undefined without a tokenizer. */
  readonly token: string | undefined;
  readonly logit: number;
  /** Nats. */
  readonly logProb: number;
  readonly prob: number;
}

/**
 * The questions that every distribution over tokens answers, about ids or text. Values are raw when the distribution is
 * (`Distribution`) and processed when it is (`Distribution.processed`). Every question rejects with AbortError when its
 * `signal` fires.
 */
export interface TokenDistribution {
  /**
   * The k likeliest, most likely first; equal logits: the lower id first. A processed distribution leaves out what the
   * filters removed, and so may give fewer.
   * @param k default 10
   */
  top(k?: number, options?: CallOptions): Promise<RankedToken[]>;
  /** Of a text of several tokens: the product of the probabilities of each after those before it. */
  prob(token: number | string, options?: CallOptions): Promise<number>;
  /** Nats; -Infinity for a token that cannot come. Of a text of several tokens the sum. */
  logProb(token: number | string, options?: CallOptions): Promise<number>;
  /** 1 + the number of strictly likelier tokens. @throws InputError for text of several tokens */
  rank(token: number | string, options?: CallOptions): Promise<number>;
  /** Nats. */
  entropy(options?: CallOptions): Promise<number>;
  /** ln Σ exp(logit). */
  logSumExp(options?: CallOptions): Promise<number>;
  /** All logits, [V], the caller's to keep; -Infinity: cannot come. */
  logits(options?: CallOptions): Promise<Float32Array>;
  /** One id, exactly by the probabilities; the same for the same seed. */
  sample(sample: AskSample, options?: CallOptions): Promise<number>;
}

/** What a distribution may know besides its hidden state. */
export interface DistributionContext {
  readonly text?: TokenText;
  /** The ids before this token, for the repetition penalty. */
  readonly ids?: readonly number[];
  /**
   * Hidden states [ids.length, D] from which each of the ids is predicted, after those before it: the first row is the
   * distribution's own. For text of several tokens.
   */
  readonly continuation?: (ids: readonly number[], options: CallOptions) => Promise<Float32Array>;
}

/**
 * The model's own (raw) next-token distribution: a hidden state [D] and a head, waiting to be asked. Nothing is computed
 * before a question; log-sum-exp and entropy are remembered.
 */
export class Distribution implements TokenDistribution {
  readonly hidden: Float32Array;
  readonly head: LinearHead;
  readonly context: DistributionContext;
  private sums: Sums | undefined;
  /** A pass for them that no signal ends: one for all who ask meanwhile. */
  private summing: Promise<Sums> | undefined;

  constructor(head: LinearHead, hidden: Float32Array, context: DistributionContext = {}) {
    if (hidden.length !== head.hiddenSize)
      throw new InputError(`hidden: expected one row of ${head.hiddenSize} numbers, got ${hidden.length}`);
    this.head = head;
    this.hidden = hidden;
    this.context = context;
  }

  async top(k = 10, options: CallOptions = {}): Promise<RankedToken[]> {
    const { topK, logSumExp } = await this.head.ask(this.hidden, { topK: k, logSumExp: true }, options);
    return Array.from(topK[0].ids, (id, i) => {
      const logit = topK[0].logits[i];
      return { id, token: this.context.text?.tokenText(id), logit, ...likelihood(logit - logSumExp[0]) };
    });
  }

  async logProb(token: number | string, options: CallOptions = {}): Promise<number> {
    const ids = idsOf(token, this.context.text);
    checkFields("logProb", options, ["signal"]);
    const rows = ids.length > 1 ? await this.continued(token, ids, options) : this.hidden;
    const { logProbs } = await this.head.ask(rows, { logProbs: ids.map((id) => [id]) }, options);
    return logProbs.reduce((sum, [logProb]) => sum + logProb, 0);
  }

  async prob(token: number | string, options: CallOptions = {}): Promise<number> {
    return Math.exp(await this.logProb(token, options));
  }

  async rank(token: number | string, options: CallOptions = {}): Promise<number> {
    const rank = [oneId(token, this.context.text)];
    return (await this.head.ask(this.hidden, { rank }, options)).rank[0][0];
  }

  /** ln Σ exp(logit). */
  async logSumExp(options: CallOptions = {}): Promise<number> {
    return (await this.both(options)).logSumExp;
  }

  async entropy(options: CallOptions = {}): Promise<number> {
    return (await this.both(options)).entropy;
  }

  async sample(sample: AskSample, options: CallOptions = {}): Promise<number> {
    return (await this.head.ask(this.hidden, { sample }, options)).sample.ids[0];
  }

  /** All logits, [V]. */
  async logits(options: CallOptions = {}): Promise<Float32Array> {
    return (await this.head.ask(this.hidden, { logits: true }, options)).logits;
  }

  /**
   * What sampling with these options draws from: this distribution after penalty, temperature and filters.
   * @param ids prompt and output so far, for the repetition penalty; default: the context's
   * @throws InputError for an unknown option or one out of its range, and for a repetition penalty without ids;
   *   AbortError when the signal of `call` fires
   */
  async processed(
    options: SamplingOptions,
    ids: Iterable<number> | undefined = this.context.ids,
    call: CallOptions = {},
  ): Promise<TokenDistribution> {
    if (!ids && options.repetitionPenalty !== undefined && options.repetitionPenalty !== 1)
      throw new InputError("processed: repetitionPenalty needs the ids before this token: give them");
    return ProcessedDistribution.of(this, options, ids, call);
  }

  /**
   * Hidden states [ids.length, D] from which each of a text's ids is predicted.
   * @throws InputError where nothing can read on; AbortError
   */
  async continued(
    text: number | string,
    ids: readonly number[],
    options: CallOptions,
  ): Promise<Float32Array> {
    if (this.context.continuation) return this.context.continuation(ids, options);
    throw new InputError(
      `${JSON.stringify(text)} is ${ids.length} tokens: ask a model's distribution, which can read on, or give one token`,
    );
  }

  private async both(options: CallOptions): Promise<Sums> {
    checkFields("options", options, ["signal"]);
    throwIfAborted(options.signal);
    if (this.sums) return this.sums;
    if (options.signal) return this.sum(options);
    this.summing ??= this.sum(options).finally(() => {
      this.summing = undefined; // what failed once may succeed later
    });
    return this.summing;
  }

  private async sum(options: CallOptions): Promise<Sums> {
    const ask = { logSumExp: true, entropy: true } as const;
    const { logSumExp, entropy } = await this.head.ask(this.hidden, ask, options);
    this.sums = { logSumExp: logSumExp[0], entropy: entropy[0] };
    return this.sums;
  }
}

interface Sums {
  readonly logSumExp: number;
  readonly entropy: number;
}
