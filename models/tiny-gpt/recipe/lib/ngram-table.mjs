// Numbers for n-grams: open addressing over typed arrays.

/** Gives each pair of a context's number and a token a number of its own, from 0, in the order in which they came. */
export class NgramTable {
  /** Pairs so far. */
  size = 0;
  /** The context's number of each pair. */
  contexts = new Int32Array(1024);
  #tokens = new Int32Array(1024);
  /** Number of the pair in each slot plus one; 0 is free. At most half are taken. */
  #slots = new Int32Array(2048);

  /** The pair's number, or −1. */
  find(context, token) {
    return this.#slots[this.#slotOf(context, token)] - 1;
  }

  /** The pair's number, which is the `size` before the call when the pair is new. */
  insert(context, token) {
    const slot = this.#slotOf(context, token);
    if (this.#slots[slot] > 0) return this.#slots[slot] - 1;
    const number = this.size++;
    this.#slots[slot] = number + 1;
    this.contexts[number] = context;
    this.#tokens[number] = token;
    if (this.size === this.contexts.length) this.#grow();
    return number;
  }

  /** The slot that holds the pair, or the free one where it belongs. */
  #slotOf(context, token) {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let hash = Math.imul(Math.imul(context, 0x9e3779b1) ^ (token + 0x7f4a7c15), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae35);
    let slot = (hash ^ (hash >>> 13)) & mask;
    for (; slots[slot] > 0; slot = (slot + 1) & mask) {
      const number = slots[slot] - 1;
      if (this.contexts[number] === context && this.#tokens[number] === token) break;
    }
    return slot;
  }

  #grow() {
    this.contexts = twiceAsLong(this.contexts);
    this.#tokens = twiceAsLong(this.#tokens);
    this.#slots = new Int32Array(this.#slots.length * 2);
    for (let number = 0; number < this.size; number++)
      this.#slots[this.#slotOf(this.contexts[number], this.#tokens[number])] = number + 1;
  }
}

/** @param {Int32Array} array @returns {Int32Array} with zeros behind */
export function twiceAsLong(array) {
  const longer = new Int32Array(array.length * 2);
  longer.set(array);
  return longer;
}
