/** A pair that may be merged next, with the words in which it was found when it entered the queue. */
export interface Candidate {
  readonly pair: number;
  /** The pair as a number that sorts as the pair does. */
  readonly key: number;
  /** The pair's count when it entered, or was last looked at. */
  count: number;
  /** Indices of words, rising; some may have lost the pair since. */
  readonly words: readonly number[];
}

/** A binary heap: the highest count first, of equal counts the lower pair. */
export class MergeQueue {
  private readonly heap: Candidate[] = [];

  /** The first candidate, which stays in the queue. */
  peek(): Candidate | undefined {
    return this.heap[0];
  }

  push(candidate: Candidate): void {
    const { heap } = this;
    let at = heap.length;
    heap.push(candidate);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(candidate, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = candidate;
  }

  /** Takes the first candidate out. */
  pop(): void {
    const last = this.heap.pop();
    if (last && this.heap.length > 0) this.sink(last);
  }

  /** Gives the first candidate another count, and its place by it. */
  recount(count: number): void {
    const [first] = this.heap;
    first.count = count;
    this.sink(first);
  }

  /** Puts a candidate where the first stands and lets it sink to its place. */
  private sink(candidate: Candidate): void {
    const { heap } = this;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child++;
      if (!before(heap[child], candidate)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = candidate;
  }
}

function before(a: Candidate, b: Candidate): boolean {
  return a.count > b.count || (a.count === b.count && a.key < b.key);
}
