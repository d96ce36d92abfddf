/** Ids of a vocabulary are below this, so that a pair is one exact number, ordered as the pair is. */
export const MOST_IDS = 2 ** 24;

/**
 * Numbers pairs of ids from 0 on and keeps a count for each. Open addressing with linear probing: some ten times the
 * speed of a Map of numbers too large for small integers.
 */
export class PairCounts {
  /** left · 2²⁴ + right, by pair. */
  keys = new Float64Array(1 << 12);
  counts = new Float64Array(1 << 12);
  size = 0;
  /** Pair + 1 by slot; 0 is free. */
  private slots = new Int32Array(1 << 14);

  /** The number of a pair; a new one has the count 0. */
  of(left: number, right: number): number {
    const key = left * MOST_IDS + right;
    const mask = this.slots.length - 1;
    let slot = hash(left, right) & mask;
    for (; this.slots[slot] !== 0; slot = (slot + 1) & mask)
      if (this.keys[this.slots[slot] - 1] === key) return this.slots[slot] - 1;
    const pair = this.size++;
    if (pair === this.keys.length) this.grow();
    this.keys[pair] = key;
    this.place(pair);
    return pair;
  }

  left(pair: number): number {
    return Math.floor(this.keys[pair] / MOST_IDS);
  }

  right(pair: number): number {
    return this.keys[pair] % MOST_IDS;
  }

  private place(pair: number): void {
    const mask = this.slots.length - 1;
    let slot = hash(this.left(pair), this.right(pair)) & mask;
    while (this.slots[slot] !== 0) slot = (slot + 1) & mask;
    this.slots[slot] = pair + 1;
  }

  /** Doubles everything; slots stay at most a quarter full. */
  private grow(): void {
    const { keys, counts } = this;
    this.keys = new Float64Array(2 * keys.length);
    this.keys.set(keys);
    this.counts = new Float64Array(2 * counts.length);
    this.counts.set(counts);
    this.slots = new Int32Array(2 * this.slots.length);
    for (let pair = 0; pair < keys.length; pair++) this.place(pair);
  }
}

function hash(left: number, right: number): number {
  const mixed = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca77);
  return mixed ^ (mixed >>> 15);
}
