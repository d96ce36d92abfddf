import { MergeQueue } from "./merge-queue.js";
import { PairCounts } from "./pair-counts.js";

/** Words as symbols, one after the other; a merge shortens a word in place. */
export interface SymbolWords {
  readonly symbols: Int32Array;
  /** Where each word begins in `symbols`; one more at the end. */
  readonly starts: Float64Array;
  /** Symbols left of each word. */
  readonly lengths: Int32Array;
  /** How often each word came. */
  readonly counts: readonly number[];
}

export interface MergeLimits {
  readonly vocabSize: number;
  readonly minFrequency: number;
  /** Pairs that would make a token of this many characters or more are not counted. Infinity: no limit. */
  readonly maxTokenLength: number;
}

/**
 * Learns merges one by one: the pair of the highest count, of equal counts the one of the lower ids.
 *
 * The order, and so every id, is that of Hugging Face's `tokenizers` 0.23 (models/bpe/trainer.rs), and with it three
 * things that differ from a recount after each merge, seen where two ways of merging give one token ("ab"+"c" and
 * "a"+"bc"): a pair enters the queue again with only the words that got it in one step; a candidate merges its own
 * words alone; and a merged pair's count is not set back.
 */
export class MergeLearner {
  /** Token strings by id; grows by a merge's token unless there is one of that string. */
  readonly pieces: string[];
  /** Ids that are joined; a pair may come again, and then its last place counts. */
  readonly merges: (readonly [left: number, right: number])[] = [];
  private readonly ids: Map<string, number>;
  private readonly pairs = new PairCounts();
  private readonly queue = new MergeQueue();
  /** Words that got a pair in this step, by pair. */
  private readonly found = new Map<number, number[]>();
  private readonly words: SymbolWords;
  private readonly limits: MergeLimits;

  /** @param pieces the tokens to begin with: special tokens and the alphabet */
  constructor(words: SymbolWords, pieces: readonly string[], limits: MergeLimits) {
    this.words = words;
    this.pieces = [...pieces];
    this.ids = new Map(pieces.map((piece, id) => [piece, id]));
    this.limits = limits;
    for (let word = 0; word < words.lengths.length; word++) this.countPairs(word);
    this.enqueueFound();
  }

  private countPairs(word: number): void {
    const { symbols, starts, lengths } = this.words;
    const start = starts[word];
    for (let i = 1; i < lengths[word]; i++) this.change(symbols[start + i - 1], symbols[start + i], word, 1);
  }

  /** Merges once. False when the vocabulary is full or no pair is frequent enough. */
  step(): boolean {
    if (this.pieces.length >= this.limits.vocabSize) return false;
    for (let first = this.queue.peek(); first; first = this.queue.peek()) {
      const count = this.pairs.counts[first.pair];
      if (count !== first.count) {
        this.queue.recount(count);
        continue;
      }
      if (count < 1 || count < this.limits.minFrequency) return false;
      this.queue.pop();
      const left = this.pairs.left(first.pair);
      const right = this.pairs.right(first.pair);
      const token = this.tokenOf(this.pieces[left] + this.pieces[right]);
      this.merges.push([left, right]);
      for (const word of first.words) this.mergeIn(word, left, right, token);
      this.enqueueFound();
      return true;
    }
    return false;
  }

  private tokenOf(piece: string): number {
    let id = this.ids.get(piece);
    if (id === undefined) {
      id = this.pieces.push(piece) - 1;
      this.ids.set(piece, id);
    }
    return id;
  }

  private mergeIn(word: number, left: number, right: number, token: number): void {
    const { symbols, starts, lengths } = this.words;
    const start = starts[word];
    const end = start + lengths[word];
    let to = start;
    for (let from = start; from < end; to++) {
      if (symbols[from] !== left || from + 1 === end || symbols[from + 1] !== right) {
        symbols[to] = symbols[from++];
        continue;
      }
      if (to > start) {
        this.change(symbols[to - 1], left, word, -1);
        if (this.short(symbols[to - 1], token)) this.change(symbols[to - 1], token, word, 1);
      }
      from += 2;
      if (from < end) {
        this.change(right, symbols[from], word, -1);
        if (this.short(token, symbols[from])) this.change(token, symbols[from], word, 1);
      }
      symbols[to] = token;
    }
    lengths[word] = to - start;
  }

  private short(left: number, right: number): boolean {
    return this.pieces[left].length + this.pieces[right].length < this.limits.maxTokenLength;
  }

  private change(left: number, right: number, word: number, sign: 1 | -1): void {
    const pair = this.pairs.of(left, right);
    this.pairs.counts[pair] += sign * this.words.counts[word];
    if (sign < 0) return;
    const words = this.found.get(pair);
    if (!words) this.found.set(pair, [word]);
    else if (words[words.length - 1] !== word) words.push(word);
  }

  private enqueueFound(): void {
    for (const [pair, words] of this.found) {
      const count = this.pairs.counts[pair];
      if (count > 0) this.queue.push({ pair, key: this.pairs.keys[pair], count, words });
    }
    this.found.clear();
  }
}
