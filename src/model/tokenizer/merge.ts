/**
 * Byte-pair merging, for the library to call in place of its own, which costs several seconds for a piece of a million
 * characters (an object a symbol and a string a pair). Same rule: again and again the neighbours whose merge stands
 * first in the list are joined, the leftmost of equals first. Time O(n log n).
 */
export class Merger {
  private readonly ids: ReadonlyMap<string, number>;
  /** (left id, right id) → rank, and rank → the joined token's id. */
  private readonly ranks = new Map<number, number>();
  private readonly joined: Int32Array;
  private readonly cache = new Map<string, string[]>();
  // Scratch of one call, a place for each symbol of the piece; kept for the next.
  private symbol = new Int32Array(64);
  private start = new Int32Array(64);
  private previous = new Int32Array(64);
  private following = new Int32Array(64);

  /** @param merges pairs whose parts and whole are all in `ids` */
  constructor(ids: ReadonlyMap<string, number>, merges: readonly (readonly [string, string])[]) {
    this.ids = ids;
    this.joined = new Int32Array(merges.length);
    merges.forEach(([left, right], rank) => {
      this.ranks.set(pairKey(ids.get(left)!, ids.get(right)!), rank);
      this.joined[rank] = ids.get(left + right)!;
    });
  }

  /** The tokens of one piece of text; symbols that are in no merge stay single characters. */
  merge(piece: string): string[] {
    const known = this.cache.get(piece);
    if (known) return known;
    const tokens = this.run(piece);
    if (piece.length <= 64) {
      if (this.cache.size >= 20_000) this.cache.clear();
      this.cache.set(piece, tokens);
    }
    return tokens;
  }

  private run(piece: string): string[] {
    if (piece.length > this.symbol.length) this.grow(piece.length);
    const { symbol, start, previous, following } = this;
    let n = 0;
    for (let at = 0; at < piece.length; n++) {
      const point = String.fromCodePoint(piece.codePointAt(at)!);
      symbol[n] = this.ids.get(point) ?? -1;
      start[n] = at;
      previous[n] = n - 1;
      following[n] = n + 1;
      at += point.length;
    }
    const heap = new Heap();
    const offer = (left: number): void => {
      const right = following[left];
      if (left < 0 || right >= n) return;
      const rank = this.rankOf(symbol[left], symbol[right]);
      if (rank !== undefined) heap.push(rank * PLACES + left);
    };
    for (let i = 0; i + 1 < n; i++) offer(i);
    for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
      const left = top % PLACES;
      const rank = (top - left) / PLACES;
      const right = following[left];
      // What was offered may be gone: swallowed by a neighbour (-2), or joined with another.
      if (symbol[left] === GONE || right >= n || this.rankOf(symbol[left], symbol[right]) !== rank) continue;
      symbol[left] = this.joined[rank];
      symbol[right] = GONE;
      following[left] = following[right];
      if (following[left] < n) previous[following[left]] = left;
      if (previous[left] >= 0) offer(previous[left]);
      offer(left);
    }
    const tokens: string[] = [];
    for (let i = 0; i < n; i = following[i]) {
      const end = following[i] < n ? start[following[i]] : piece.length;
      tokens.push(piece.slice(start[i], end));
    }
    return tokens;
  }

  private rankOf(left: number, right: number): number | undefined {
    return left < 0 || right < 0 ? undefined : this.ranks.get(pairKey(left, right));
  }

  private grow(length: number): void {
    this.symbol = new Int32Array(length);
    this.start = new Int32Array(length);
    this.previous = new Int32Array(length);
    this.following = new Int32Array(length);
  }
}

/** Symbol of a place that its left neighbour has swallowed. */
const GONE = -2;

/** Ranks and places in one number that sorts by rank, then from the left: places fit below 2^30 (a string's most). */
const PLACES = 2 ** 30;

/** Ids are below 2^24 (`check.ts`), so a pair fits in 48 bits. */
function pairKey(left: number, right: number): number {
  return left * 2 ** 24 + right;
}

/** A binary heap of numbers, the least on top. */
class Heap {
  private readonly items: number[] = [];

  push(item: number): void {
    const items = this.items;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent] <= item) break;
      items[at] = items[parent];
      at = parent;
    }
    items[at] = item;
  }

  pop(): number | undefined {
    const items = this.items;
    const top = items[0];
    const last = items.pop();
    if (items.length === 0 || last === undefined) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && items[child + 1] < items[child]) child++;
      if (items[child] >= last) break;
      items[at] = items[child];
      at = child;
    }
    items[at] = last;
    return top;
  }
}
