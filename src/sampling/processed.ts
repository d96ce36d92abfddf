import { checkFields, InputError, throwIfAborted } from "../errors.js";
import { type AskSample, type CallOptions, sampleQuery } from "../head/ask.js";
import type { Distribution, RankedToken, TokenDistribution } from "../head/distribution.js";
import type { LinearHead } from "../head/linear.js";
import { idsOf, likelihood, oneId } from "../head/tokens.js";
import {
  checkSuppressed,
  processLogits,
  SAMPLING_FIELDS,
  type Sampling,
  type SamplingOptions,
  samplingOf,
} from "./options.js";
import { pick } from "./pick.js";
import { applyTemperature } from "./processors.js";

/**
 * A distribution after penalty, suppressed ids, temperature and filters: what sampling with these options draws from.
 * Every value is processed; removed tokens have probability 0 (log-probability -Infinity). Greedy leaves one token, of
 * probability 1.
 */
export class ProcessedDistribution implements TokenDistribution {
  private readonly row: Float32Array;
  private readonly logSum: number;
  private readonly raw: Distribution;
  private readonly sampling: Sampling;
  private readonly seen: readonly number[];

  private constructor(raw: Distribution, sampling: Sampling, seen: readonly number[], logits: Float32Array) {
    this.raw = raw;
    this.sampling = sampling;
    this.seen = seen;
    this.row = logits;
    this.logSum = logSumExp(logits);
  }

  /**
   * @param context prompt and output ids, for the repetition penalty
   * @param call its signal ends the reading of the logits; all that is asked later is asked of what was read
   */
  static async of(
    raw: Distribution,
    options: SamplingOptions,
    context: Iterable<number> = [],
    call: CallOptions = {},
  ): Promise<ProcessedDistribution> {
    checkFields("processed", options, SAMPLING_FIELDS);
    const sampling = samplingOf(options);
    checkSuppressed(sampling, raw.head.vocabSize);
    const seen = [...context];
    return new ProcessedDistribution(raw, sampling, seen, await processedLogits(raw, sampling, seen, call));
  }

  async top(k = 10, options: CallOptions = {}): Promise<RankedToken[]> {
    check(options);
    const V = this.row.length;
    if (!(Number.isInteger(k) && k >= 1 && k <= V))
      throw new InputError(`top: expected a whole number from 1 to ${V} (the vocabulary), got ${k}`);
    const kept: number[] = [];
    this.row.forEach((x, i) => {
      if (x > -Infinity) kept.push(i);
    });
    kept.sort((a, b) => this.row[b] - this.row[a] || a - b);
    return kept.slice(0, k).map((id) => ({
      id,
      token: this.raw.context.text?.tokenText(id),
      logit: this.row[id],
      ...likelihood(this.row[id] - this.logSum),
    }));
  }

  /** Of text of several tokens: each is processed as it would be after those before it. */
  async logProb(token: number | string, options: CallOptions = {}): Promise<number> {
    check(options);
    const [first, ...rest] = idsOf(token, this.raw.context.text);
    let sum = this.row[this.checked(first)] - this.logSum;
    if (rest.length === 0 || sum === -Infinity) return sum;
    const { head } = this.raw;
    const rows = await this.raw.continued(token, [first, ...rest], options);
    const seen = [...this.seen, first];
    for (const [i, id] of rest.entries()) {
      const hidden = rows.subarray((i + 1) * head.hiddenSize, (i + 2) * head.hiddenSize);
      const logits = await processedLogits({ head, hidden }, this.sampling, seen, options);
      sum += logits[this.checked(id)] - logSumExp(logits);
      if (sum === -Infinity) break;
      seen.push(id);
    }
    return sum;
  }

  async prob(token: number | string, options: CallOptions = {}): Promise<number> {
    return Math.exp(await this.logProb(token, options));
  }

  async rank(token: number | string, options: CallOptions = {}): Promise<number> {
    check(options);
    const mine = this.row[this.checked(oneId(token, this.raw.context.text))];
    let larger = 0;
    for (const x of this.row) if (x > mine) larger++;
    return 1 + larger;
  }

  async entropy(options: CallOptions = {}): Promise<number> {
    check(options);
    let sum = 0;
    for (const x of this.row) {
      const logProb = x - this.logSum;
      if (x > -Infinity) sum -= Math.exp(logProb) * logProb;
    }
    return Math.max(0, sum);
  }

  async logSumExp(options: CallOptions = {}): Promise<number> {
    check(options);
    return this.logSum;
  }

  async logits(options: CallOptions = {}): Promise<Float32Array> {
    check(options);
    return this.row.slice();
  }

  async sample(sample: AskSample, options: CallOptions = {}): Promise<number> {
    check(options);
    const { seed, temperature, sequences, steps } = sampleQuery(sample, 1);
    const logits = this.row.slice();
    applyTemperature(logits, temperature);
    return pick(logits, (i) => i, samplingOf({ seed }), { sequence: sequences[0], step: steps[0] });
  }

  private checked(id: number): number {
    if (!(Number.isInteger(id) && id >= 0 && id < this.row.length))
      throw new InputError(`id ${id} is outside the vocabulary [0, ${this.row.length})`);
    return id;
  }
}

function check(options: CallOptions): void {
  checkFields("options", options, ["signal"]);
  throwIfAborted(options.signal);
}

/** All logits of a hidden state [D], processed: those of a greedy choice leave one token. */
async function processedLogits(
  { head, hidden }: { readonly head: LinearHead; readonly hidden: Float32Array },
  sampling: Sampling,
  seen: readonly number[],
  call: CallOptions,
): Promise<Float32Array> {
  const { logits } = await head.ask(hidden, { logits: true }, call);
  processLogits(logits, sampling, seen);
  if (sampling.greedy) {
    const best = pick(logits, (i) => i, sampling, { sequence: 0, step: 0 });
    for (let i = 0; i < logits.length; i++) if (i !== best) logits[i] = -Infinity;
  }
  return logits;
}

function logSumExp(logits: Float32Array): number {
  let top = -Infinity;
  for (const x of logits) if (x > top) top = x;
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - top);
  return top + Math.log(sum);
}
