import { InputError } from "../errors.js";
import type { AskSample } from "./ask.js";
import type { LinearHead } from "./linear.js";

/** Text of tokens, as far as a distribution needs it. */
export interface TokenText {
  encode(text: string): number[];
  tokenText(id: number): string;
}

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

/** The questions that every distribution over tokens answers. Ids or text; text of several tokens by the chain rule. */
export interface TokenDistribution {
  /** The k likeliest, most likely first; equal logits: the lower id first. */
  top(k: number): Promise<RankedToken[]>;
  prob(token: number | string): Promise<number>;
  /** Nats; -Infinity for a token that cannot come. */
  logProb(token: number | string): Promise<number>;
  /** 1 + the number of strictly likelier tokens. @throws InputError for text of several tokens */
  rank(token: number | string): Promise<number>;
  /** Nats. */
  entropy(): Promise<number>;
  /** One id, exactly by the probabilities; the same for the same seed. */
  sample(options: AskSample): Promise<number>;
}

/** What a distribution may know besides its hidden state. */
export interface DistributionContext {
  readonly text?: TokenText;
  /** Log-probabilities (raw) of the ids, each after those before it; for text of several tokens. */
  readonly continuation?: (ids: readonly number[]) => Promise<number[]>;
}

/**
 * The model's own (raw) next-token distribution: a hidden state [D] and a head, waiting to be asked. Nothing is computed
 * before a question; log-sum-exp and entropy are remembered.
 */
export class Distribution implements TokenDistribution {
  readonly hidden: Float32Array;
  readonly head: LinearHead;
  readonly context: DistributionContext;
  private sums: Promise<{ logSumExp: number; entropy: number }> | undefined;

  constructor(head: LinearHead, hidden: Float32Array, context: DistributionContext = {}) {
    if (hidden.length !== head.hiddenSize)
      throw new InputError(`hidden: expected one row of ${head.hiddenSize} numbers, got ${hidden.length}`);
    this.head = head;
    this.hidden = hidden;
    this.context = context;
  }

  async top(k: number): Promise<RankedToken[]> {
    const { topK, logSumExp } = await this.head.ask(this.hidden, { topK: k, logSumExp: true });
    return Array.from(topK[0].ids, (id, i) => {
      const logit = topK[0].logits[i];
      return { id, token: this.context.text?.tokenText(id), logit, ...likelihood(logit - logSumExp[0]) };
    });
  }

  async logProb(token: number | string): Promise<number> {
    const ids = idsOf(token, this.context.text);
    if (ids.length > 1) {
      if (!this.context.continuation)
        throw new InputError(
          `${JSON.stringify(token)} is ${ids.length} tokens: ask a model's distribution, which can read on, or give one token`,
        );
      return (await this.context.continuation(ids)).reduce((sum, x) => sum + x, 0);
    }
    return (await this.head.ask(this.hidden, { logProbs: ids })).logProbs[0][0];
  }

  async prob(token: number | string): Promise<number> {
    return Math.exp(await this.logProb(token));
  }

  async rank(token: number | string): Promise<number> {
    return (await this.head.ask(this.hidden, { rank: [oneId(token, this.context.text)] })).rank[0][0];
  }

  /** ln Σ exp(logit). */
  async logSumExp(): Promise<number> {
    return (await this.both()).logSumExp;
  }

  async entropy(): Promise<number> {
    return (await this.both()).entropy;
  }

  async sample(options: AskSample): Promise<number> {
    return (await this.head.ask(this.hidden, { sample: options })).sample.ids[0];
  }

  /** All logits, [V]. */
  async logits(): Promise<Float32Array> {
    return (await this.head.ask(this.hidden, { logits: true })).logits;
  }

  private both(): Promise<{ logSumExp: number; entropy: number }> {
    this.sums ??= this.head
      .ask(this.hidden, { logSumExp: true, entropy: true })
      .then(({ logSumExp, entropy }) => ({ logSumExp: logSumExp[0], entropy: entropy[0] }));
    return this.sums;
  }
}

/** Ids of a token given as id or text. @throws InputError for text without a tokenizer, or empty text */
export function idsOf(token: number | string, text: TokenText | undefined): number[] {
  if (typeof token === "number") return [token];
  if (!text) throw new InputError(`${JSON.stringify(token)}: this model has no tokenizer; give an id`);
  const ids = text.encode(token);
  if (ids.length === 0)
    throw new InputError("the empty text is no token; give text of at least one character, or an id");
  return ids;
}

/** The id of text that must be one token. */
export function oneId(token: number | string, text: TokenText | undefined): number {
  const ids = idsOf(token, text);
  if (ids.length > 1)
    throw new InputError(
      `${JSON.stringify(token)} is ${ids.length} tokens (${ids.join(", ")}): a rank is of one token`,
    );
  return ids[0];
}

/** A log-probability with its probability. */
export function likelihood(logProb: number): { logProb: number; prob: number } {
  return { logProb, prob: Math.exp(logProb) };
}
