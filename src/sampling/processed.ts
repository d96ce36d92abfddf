import { checkFields, InputError } from "../errors.js";
import type { AskSample } from "../head/ask.js";
import {
  type Distribution,
  likelihood,
  oneId,
  type RankedToken,
  type TokenDistribution,
} from "../head/distribution.js";
import { processLogits, SAMPLING_FIELDS, type SamplingOptions, samplingOf } from "./options.js";
import { applyTemperature } from "./processors.js";
import { pick } from "./sampler.js";

/**
 * A distribution after penalty, temperature and filters: what sampling with these options draws from. Every value is
 * processed; removed tokens have probability 0 (log-probability -Infinity).
 */
export class ProcessedDistribution implements TokenDistribution {
  private readonly logits: Float32Array;
  private readonly logSum: number;
  private readonly raw: Distribution;

  private constructor(raw: Distribution, logits: Float32Array) {
    this.raw = raw;
    this.logits = logits;
    let top = -Infinity;
    for (const x of logits) if (x > top) top = x;
    let sum = 0;
    for (const x of logits) sum += Math.exp(x - top);
    this.logSum = top + Math.log(sum);
  }

  /** @param context prompt and output ids, for the repetition penalty */
  static async of(
    raw: Distribution,
    options: SamplingOptions,
    context: Iterable<number> = [],
  ): Promise<ProcessedDistribution> {
    checkFields("processed", options, SAMPLING_FIELDS);
    const logits = await raw.logits();
    processLogits(logits, samplingOf(options), context);
    return new ProcessedDistribution(raw, logits);
  }

  async top(k: number): Promise<RankedToken[]> {
    const V = this.logits.length;
    if (!(Number.isInteger(k) && k >= 1 && k <= V))
      throw new InputError(`top: expected a whole number from 1 to ${V} (the vocabulary), got ${k}`);
    const kept: number[] = [];
    this.logits.forEach((x, i) => {
      if (x > -Infinity) kept.push(i);
    });
    kept.sort((a, b) => this.logits[b] - this.logits[a] || a - b);
    return kept.slice(0, k).map((id) => ({
      id,
      token: this.raw.context.text?.tokenText(id),
      logit: this.logits[id],
      ...likelihood(this.logits[id] - this.logSum),
    }));
  }

  async logProb(token: number | string): Promise<number> {
    return this.logits[this.idOf(token)] - this.logSum;
  }

  async prob(token: number | string): Promise<number> {
    return Math.exp(await this.logProb(token));
  }

  async rank(token: number | string): Promise<number> {
    const mine = this.logits[this.idOf(token)];
    let larger = 0;
    for (const x of this.logits) if (x > mine) larger++;
    return 1 + larger;
  }

  async entropy(): Promise<number> {
    let sum = 0;
    for (const x of this.logits) {
      const logProb = x - this.logSum;
      if (x > -Infinity) sum -= Math.exp(logProb) * logProb;
    }
    return Math.max(0, sum);
  }

  async sample({ seed, temperature = 1, sequences = [0], steps = [0] }: AskSample): Promise<number> {
    const logits = this.logits.slice();
    const sampling = samplingOf({ seed, temperature });
    applyTemperature(logits, temperature);
    return pick(logits, (i) => i, sampling, { sequence: sequences[0], step: steps[0] });
  }

  private idOf(token: number | string): number {
    const id = oneId(token, this.raw.context.text);
    if (!(Number.isInteger(id) && id >= 0 && id < this.logits.length))
      throw new InputError(`id ${id} is outside the vocabulary [0, ${this.logits.length})`);
    return id;
  }
}
