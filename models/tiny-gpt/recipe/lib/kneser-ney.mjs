// An n-gram language model over token ids: what a model with as little data must beat.
import { checkFields, InputError } from "../../../../dist/errors.js";
import { NgramTable, twiceAsLong } from "./ngram-table.mjs";

/** The discounts of 1, 2, and 3 or more where the counts of counts give none: KenLM's `--discount_fallback`. */
const FALLBACK = [0.5, 1, 1.5];

/**
 * Trains interpolated modified Kneser–Ney smoothing (Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques
 * for Language Modeling", TR-10-98; as KenLM's lmplz does it without pruning: Heafield et al. 2013).
 *
 * A document w₁ … wₙ is read as E w₁ … wₙ E, E being `endOfText`: the first E is only ever context, the last only ever
 * predicted. N-grams lie within one document. The count a(g) of an n-gram g is
 * - of the highest order, or beginning with the first E: how often it comes;
 * - else: how many different tokens come before it.
 *
 * For each order, with nⱼ the number of its n-grams of a = j and Y = n₁ / (n₁ + 2 n₂), the discounts are
 * Dⱼ = j − (j + 1) Y nⱼ₊₁ / nⱼ for j = 1, 2, 3, the third being for every a ≥ 3. Where one of n₁, n₂, n₃ is 0 or a Dⱼ
 * is not in [0, j], the order's three are 0.5, 1, 1.5. Then, with h′ = h without its first token,
 *
 *     p(w | h) = (a(h w) − D(a(h w))) / Σᵥ a(h v) + p(w | h′) · Σᵥ D(a(h v)) / Σᵥ a(h v)        D(0) = 0
 *
 * p(w | h) = p(w | h′) for a context h that nothing follows, and below the empty context p = 1 / vocabSize. Each id has
 * a probability above 0 (but in the rare case of D = 0 throughout), and those of all ids sum to 1.
 *
 * Time and memory: 4 million tokens of 5-grams in some seconds and some 0.6 GB.
 *
 * @param {object} options
 * @param {Iterable<ArrayLike<number>>} options.documents ids of each, without `endOfText`
 * @param {number} options.vocabSize V, from 1; ids are in [0, V)
 * @param {number} options.endOfText
 * @param {number} [options.order] tokens of the longest n-gram, from 1. Default 5
 * @returns {KneserNey}
 * @throws InputError for options out of range, an id out of range or `endOfText` inside a document, no document
 */
export function trainKneserNey(options) {
  checkFields("trainKneserNey", options, ["documents", "vocabSize", "endOfText", "order"]);
  const { documents, vocabSize, endOfText, order = 5 } = options;
  const must = (ok, name, expected, got) => {
    if (!ok) throw new InputError(`trainKneserNey: ${name}: expected ${expected}, got ${got}`);
  };
  must(isWhole(vocabSize, 1, 2 ** 31), "vocabSize", "a whole number from 1", vocabSize);
  must(isWhole(endOfText, 0, vocabSize), "endOfText", `an id below ${vocabSize}`, endOfText);
  must(isWhole(order, 1, 17), "order", "a whole number from 1 to 16", order);
  must(Symbol.iterator in Object(documents), "documents", "an iterable of arrays of ids", typeof documents);

  const levels = Array.from({ length: order }, () => new Level());
  let count = 0;
  for (const document of documents) {
    checkDocument("trainKneserNey", count, document, vocabSize, endOfText);
    countDocument(levels, document, endOfText);
    count++;
  }
  must(count > 0, "documents", "at least one document", "none");
  for (const level of levels) level.finish();
  return new KneserNey(levels, vocabSize, endOfText);
}

/** The n-grams of one order. An n-gram is the number of its context among those one shorter, and a token. */
class Level {
  table = new NgramTable();
  /** a of each n-gram. */
  counts = new Int32Array(1024);
  /** Of each context: Σ a. */
  totals;
  /** Of each context: Σ D(a). */
  discounted;
  /** D for a of 1, 2, and 3 or more. */
  discounts;
  usesFallback;

  add(ngram) {
    while (ngram >= this.counts.length) this.counts = twiceAsLong(this.counts);
    this.counts[ngram]++;
  }

  finish() {
    const { table, counts } = this;
    const estimated = discountsOf(counts.subarray(0, table.size));
    this.usesFallback = estimated === undefined;
    this.discounts = estimated ?? FALLBACK;
    let contexts = 0;
    for (let ngram = 0; ngram < table.size; ngram++) contexts = Math.max(contexts, table.contexts[ngram] + 1);
    this.totals = new Float64Array(contexts);
    this.discounted = new Float64Array(contexts);
    for (let ngram = 0; ngram < table.size; ngram++) {
      this.totals[table.contexts[ngram]] += counts[ngram];
      this.discounted[table.contexts[ngram]] += this.discount(counts[ngram]);
    }
  }

  discount(count) {
    return count === 0 ? 0 : this.discounts[Math.min(count, 3) - 1];
  }
}

/** D₁, D₂, D₃₊ from all counts of an order; undefined where they can't be estimated. */
function discountsOf(counts) {
  const n = [0, 0, 0, 0, 0];
  for (const count of counts) if (count <= 4) n[count]++;
  if (n[1] === 0 || n[2] === 0 || n[3] === 0) return undefined;
  const y = n[1] / (n[1] + 2 * n[2]);
  const discounts = [1, 2, 3].map((j) => j - ((j + 1) * y * n[j + 1]) / n[j]);
  return discounts.every((discount, i) => discount >= 0 && discount <= i + 1) ? discounts : undefined;
}

function countDocument(levels, document, endOfText) {
  const order = levels.length;
  // before[k]: number of the k-gram that ends just before; the empty one is 0.
  let before = new Int32Array(order + 1);
  let here = new Int32Array(order + 1);
  before[1] = levels[0].table.insert(0, endOfText);
  for (let i = 0; i <= document.length; i++) {
    const token = i < document.length ? document[i] : endOfText;
    // Including the first E, i + 1 tokens stand before.
    const longest = Math.min(order, i + 2);
    for (let k = 1; k <= longest; k++) {
      const { table } = levels[k - 1];
      const known = table.size;
      here[k] = table.insert(before[k - 1], token);
      // A new k-gram is a new token before the (k − 1)-gram it ends with.
      if (k > 1 && table.size > known) levels[k - 2].add(here[k - 1]);
    }
    // Of the highest order, or beginning with the first E.
    levels[longest - 1].add(here[longest]);
    [before, here] = [here, before];
  }
}

/** `trainKneserNey` makes it. */
export class KneserNey {
  vocabSize;
  endOfText;
  /** Tokens of the longest n-gram. */
  order;
  /** Of each order from 1: different n-grams, D₁, D₂, D₃₊, and whether those are the fallback. */
  orders;
  #levels;

  constructor(levels, vocabSize, endOfText) {
    this.#levels = levels;
    this.vocabSize = vocabSize;
    this.endOfText = endOfText;
    this.order = levels.length;
    this.orders = levels.map(({ table, discounts, usesFallback }) => ({
      ngrams: table.size,
      discounts: [...discounts],
      usesFallback,
    }));
  }

  /**
   * ln p(id | context). A context that begins a document begins with `endOfText`. Of a longer one the last order − 1
   * ids are read.
   * @param {ArrayLike<number>} context ids, oldest first; may be empty
   * @param {number} id
   * @returns {number} from −Infinity (only with discounts of 0) to 0
   * @throws InputError for ids out of range
   */
  logProb(context, id) {
    const first = Math.max(0, context.length - this.order + 1);
    for (let i = first; i <= context.length; i++) {
      const given = i < context.length ? context[i] : id;
      if (!isWhole(given, 0, this.vocabSize))
        throw new InputError(`logProb: expected ids below ${this.vocabSize}, got ${given}`);
    }
    return Math.log(this.#probability(context, context.length, id));
  }

  /**
   * −Σ log₂ p over the tokens of documents, each read from `endOfText` on.
   * @param {Iterable<ArrayLike<number>>} documents ids of each, without `endOfText`
   * @param {object} options
   * @param {boolean} options.includeEnd whether each document's end is predicted too
   * @returns {{ bits: number, predicted: number }} `predicted`: how many tokens that are
   * @throws InputError for ids out of range
   */
  bits(documents, options) {
    checkFields("bits", options, ["includeEnd"]);
    const { includeEnd } = options;
    if (typeof includeEnd !== "boolean")
      throw new InputError(`bits: includeEnd: expected true or false, got ${includeEnd}`);
    let bits = 0;
    let predicted = 0;
    let index = 0;
    for (const document of documents) {
      checkDocument("bits", index++, document, this.vocabSize, this.endOfText);
      const ids = new Int32Array(document.length + 2).fill(this.endOfText);
      ids.set(document, 1);
      const end = includeEnd ? ids.length : ids.length - 1;
      for (let i = 1; i < end; i++) bits -= Math.log2(this.#probability(ids, i, ids[i]));
      predicted += end - 1;
    }
    return { bits, predicted };
  }

  /** p(id | the ids before `end`), from the empty context to the longest known. */
  #probability(ids, end, id) {
    let p = 1 / this.vocabSize;
    for (let k = 0; k < this.order && k <= end; k++) {
      const context = this.#find(ids, end - k, end);
      const level = this.#levels[k];
      const total = level.totals[context];
      // What a context has seen follow, a shorter one has too: no longer one is known.
      if (!(total > 0)) break;
      const ngram = level.table.find(context, id);
      const count = ngram < 0 ? 0 : level.counts[ngram];
      p = (count - level.discount(count) + level.discounted[context] * p) / total;
    }
    return p;
  }

  /** Number of the n-gram ids[start, end), or −1. */
  #find(ids, start, end) {
    let ngram = 0;
    for (let i = start; i < end && ngram >= 0; i++) ngram = this.#levels[i - start].table.find(ngram, ids[i]);
    return ngram;
  }
}

function isWhole(value, least, below) {
  return Number.isSafeInteger(value) && value >= least && value < below;
}

function checkDocument(what, index, document, vocabSize, endOfText) {
  if (!Number.isSafeInteger(document?.length) || typeof document === "string")
    throw new InputError(`${what}: document ${index}: expected an array of ids, got ${typeof document}`);
  for (let i = 0; i < document.length; i++)
    if (!isWhole(document[i], 0, vocabSize) || document[i] === endOfText)
      throw new InputError(
        `${what}: document ${index}: expected ids below ${vocabSize} other than ${endOfText}, which is put around each; got ${document[i]} at position ${i}`,
      );
}
