import fc from "fast-check";
import { describe, expect, test } from "vitest";

interface Model {
  readonly orders: readonly { ngrams: number; discounts: number[]; usesFallback: boolean }[];
  logProb(context: readonly number[], id: number): number;
  bits(documents: readonly number[][], options: object): { bits: number; predicted: number };
}

const module = new URL("../../models/tiny-gpt/recipe/lib/kneser-ney.mjs", import.meta.url).href;
const trainKneserNey: (options: object) => Model = (await import(module)).trainKneserNey;

describe("by hand", () => {
  // Two documents over V = 4, E = 0: bigrams E1 twice; 12, 13, 2E, 3E once. Before 1, 2 and 3 stands one token, before
  // the end two (2 and 3). No n-gram counts 3, so the discounts are 0.5, 1, 1.5.
  const model = trainKneserNey({
    documents: [
      [1, 2],
      [1, 3],
    ],
    vocabSize: 4,
    endOfText: 0,
    order: 2,
  });
  const p = (context: number[], id: number) => Math.exp(model.logProb(context, id));

  test("unigrams are counted by what stands before, and interpolated with 1/V", () => {
    // Σa = 5, ΣD = 2.5: (1 − 0.5)/5 + 0.5/4 and (2 − 1)/5 + 0.5/4
    expect(p([], 1)).toBeCloseTo(0.225, 14);
    expect(p([], 2)).toBeCloseTo(0.225, 14);
    expect(p([], 0)).toBeCloseTo(0.325, 14);
  });

  test("bigrams", () => {
    expect(p([0], 1)).toBeCloseTo(1 / 2 + 0.225 / 2, 14);
    expect(p([1], 2)).toBeCloseTo(0.5 / 2 + 0.225 / 2, 14);
    expect(p([2], 0)).toBeCloseTo(0.5 + 0.325 / 2, 14);
    expect(p([2], 3)).toBeCloseTo(0.225 / 2, 14);
    expect(model.orders.map(({ usesFallback }) => usesFallback)).toEqual([true, true]);
  });

  test("bits with a document's end and without", () => {
    const nats = Math.log(0.6125) + Math.log(0.3625);
    const without = model.bits([[1, 2]], { includeEnd: false });
    expect(without.predicted).toBe(2);
    expect(without.bits).toBeCloseTo(-nats / Math.LN2, 13);
    const withEnd = model.bits([[1, 2], []], { includeEnd: true });
    expect(withEnd.predicted).toBe(4);
    // Of the empty document the end after E: never seen, so half of the unigram's.
    expect(withEnd.bits).toBeCloseTo(-(nats + Math.log(0.6625) + Math.log(0.325 / 2)) / Math.LN2, 13);
  });

  test("discounts from counts of counts", () => {
    // n = 5 (with the end), 2, 1, 1: Y = 5/9.
    const documents = [[1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 7, 8, 8, 8, 8]];
    const [{ discounts, usesFallback, ngrams }] = trainKneserNey({
      documents,
      vocabSize: 9,
      endOfText: 0,
      order: 1,
    }).orders;
    expect(usesFallback).toBe(false);
    expect(ngrams).toBe(9);
    for (const [i, d] of [5 / 9, 7 / 6, 7 / 9].entries()) expect(discounts[i]).toBeCloseTo(d, 14);
  });
});

/** The formulas as they stand, over strings: slow, and written without a look at the other. */
class Plain {
  readonly fallbacks: boolean[] = [];
  private readonly counts: Map<string, number>[] = [];
  private readonly discounts: number[][] = [];
  private readonly vocabSize: number;
  private readonly order: number;

  constructor(documents: readonly number[][], vocabSize: number, order: number) {
    this.vocabSize = vocabSize;
    this.order = order;
    const rows = documents.map((ids) => ["<s>", ...ids.map(String), "</s>"]);
    for (let k = 1; k <= order; k++) {
      const raw = new Map<string, number>();
      const before = new Map<string, Set<string>>();
      for (const row of rows)
        for (let start = 0; start + k <= row.length; start++) {
          const gram = row.slice(start, start + k).join(" ");
          if (gram === "<s>") continue;
          raw.set(gram, (raw.get(gram) ?? 0) + 1);
          if (!before.has(gram)) before.set(gram, new Set());
          if (start > 0) before.get(gram)!.add(row[start - 1]);
        }
      const isRaw = (gram: string) => k === order || gram.startsWith("<s> ");
      const adjusted = new Map([...raw].map(([g, count]) => [g, isRaw(g) ? count : before.get(g)!.size]));
      this.counts[k] = adjusted;
      const n = [0, 1, 2, 3, 4].map((j) => [...adjusted.values()].filter((count) => count === j).length);
      const y = n[1] / (n[1] + 2 * n[2]);
      const d = [1 - 2 * y * (n[2] / n[1]), 2 - 3 * y * (n[3] / n[2]), 3 - 4 * y * (n[4] / n[3])];
      const good = n[1] * n[2] * n[3] > 0 && d.every((x, i) => x >= 0 && x <= i + 1);
      this.fallbacks.push(!good);
      this.discounts[k] = good ? d : [0.5, 1, 1.5];
    }
  }

  /** @param context symbols, at most order − 1 */
  probability(context: readonly string[], symbol: string): number {
    const k = context.length + 1;
    const lower = context.length > 0 ? this.probability(context.slice(1), symbol) : 1 / this.vocabSize;
    const prefix = context.map((c) => `${c} `).join("");
    const following = [...this.counts[k]].filter(([g]) => g.startsWith(prefix) && g.split(" ").length === k);
    const total = following.reduce((sum, [, count]) => sum + count, 0);
    if (total === 0) return lower;
    const discount = (count: number) => (count === 0 ? 0 : this.discounts[k][Math.min(count, 3) - 1]);
    const gamma = following.reduce((sum, [, count]) => sum + discount(count), 0) / total;
    const count = this.counts[k].get(prefix + symbol) ?? 0;
    return (count - discount(count)) / total + gamma * lower;
  }

  p(context: readonly number[], id: number, endOfText: number): number {
    const kept = this.order > 1 ? context.slice(-(this.order - 1)) : [];
    const symbols = kept.map((c) => (c === endOfText ? "<s>" : String(c)));
    return this.probability(symbols, id === endOfText ? "</s>" : String(id));
  }
}

/** Documents in which few ids come often and what follows depends on what came, so that all counts of counts are there. */
function skewedDocuments(vocabSize: number, count: number): number[][] {
  let state = 1;
  const draw = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  return Array.from({ length: count }, () => {
    const ids: number[] = [];
    while (draw() < 0.93) {
      const fresh = Math.floor(vocabSize * draw() ** 3);
      const id = draw() < 0.75 ? ((ids.at(-1) ?? 0) * 2 + Math.floor(draw() * 2)) % vocabSize : fresh;
      if (id !== 5) ids.push(id);
    }
    return ids;
  });
}

function expectEqual(ours: number, theirs: number): void {
  expect(Math.abs(ours - theirs)).toBeLessThanOrEqual(1e-12 * theirs);
}

describe("the plain formulas", () => {
  test("of a corpus with discounts of its own at every order", () => {
    const documents = skewedDocuments(100, 150);
    const plain = new Plain(documents, 100, 5);
    const model = trainKneserNey({ documents, vocabSize: 100, endOfText: 5 });
    expect(plain.fallbacks).toEqual([false, false, false, false, false]);
    expect(model.orders.map(({ usesFallback }) => usesFallback)).toEqual(plain.fallbacks);
    let bits = 0;
    for (const document of documents.slice(0, 8)) {
      const ids = [5, ...document, 5];
      for (let i = 1; i < ids.length; i++) {
        const p = plain.p(ids.slice(0, i), ids[i], 5);
        expectEqual(Math.exp(model.logProb(ids.slice(0, i), ids[i])), p);
        bits -= Math.log2(p);
      }
    }
    expectEqual(model.bits(documents.slice(0, 8), { includeEnd: true }).bits, bits);
  });

  test("of any small corpus, order and context, and its probabilities sum to 1", () => {
    const V = 5;
    const END = 2;
    const token = fc.constantFrom(0, 1, 3);
    const documents = fc.array(fc.array(token, { maxLength: 14 }), { minLength: 1, maxLength: 6 });
    const context = fc.array(fc.integer({ min: 0, max: V - 1 }), { maxLength: 7 });
    const contexts = fc.array(context, { minLength: 5, maxLength: 5 });
    fc.assert(
      fc.property(documents, fc.integer({ min: 1, max: 6 }), contexts, (docs, order, asked) => {
        const plain = new Plain(docs, V, order);
        const model = trainKneserNey({ documents: docs, vocabSize: V, endOfText: END, order });
        for (const given of [[], [END], [END, ...docs[0]], ...asked]) {
          let sum = 0;
          for (let id = 0; id < V; id++) {
            const p = Math.exp(model.logProb(given, id));
            expectEqual(p, plain.p(given, id, END));
            sum += p;
          }
          expect(Math.abs(sum - 1)).toBeLessThan(1e-12);
        }
      }),
      { numRuns: 150 },
    );
  });
});

test("tables grow: 150 thousand tokens, with sums of 1 after seen and unseen contexts", () => {
  const documents = skewedDocuments(300, 11_000);
  expect(documents.flat().length).toBeGreaterThan(140_000);
  const model = trainKneserNey({ documents, vocabSize: 300, endOfText: 5, order: 4 });
  expect(model.orders[3].ngrams).toBe(distinct(documents, 4, 5));
  const long = documents.filter(({ length }) => length > 20).slice(0, 10);
  const contexts = [[], [5], ...long.map((ids) => ids.slice(3, 6)), [299, 298, 297], [0, 5, 1], [7, 299, 1]];
  for (const context of contexts) {
    let sum = 0;
    for (let id = 0; id < 300; id++) sum += Math.exp(model.logProb(context, id));
    expect(Math.abs(sum - 1)).toBeLessThan(1e-11);
  }
});

function distinct(documents: readonly number[][], k: number, endOfText: number): number {
  const grams = new Set<string>();
  for (const document of documents) {
    const ids = [endOfText, ...document, endOfText];
    for (let i = 0; i + k <= ids.length; i++) grams.add(ids.slice(i, i + k).join());
  }
  return grams.size;
}

describe("what is refused", () => {
  const good = { documents: [[1, 2]], vocabSize: 4, endOfText: 0, order: 3 };
  test.each([
    [{ vocabSize: 0 }, "vocabSize: expected a whole number from 1, got 0"],
    [{ endOfText: 4 }, "endOfText: expected an id below 4, got 4"],
    [{ order: 0 }, "order: expected a whole number from 1 to 16, got 0"],
    [{ documents: [] }, "documents: expected at least one document, got none"],
    [{ documents: 3 }, "documents: expected an iterable of arrays of ids, got number"],
    [{ documents: [[1], 7] }, "document 1: expected an array of ids, got number"],
    [{ documents: [[1, 4]] }, "got 4 at position 1"],
    [{ documents: [[1.5]] }, "got 1.5 at position 0"],
    [{ documents: [[1, 0]] }, "got 0 at position 1"],
    [{ smoothing: 1 }, 'unknown option "smoothing"'],
  ])("trainKneserNey %j", (change, message) => {
    expect(() => trainKneserNey({ ...good, ...change })).toThrow(message);
  });

  test("logProb and bits", () => {
    const model = trainKneserNey(good);
    expect(() => model.logProb([], 4)).toThrow("expected ids below 4, got 4");
    expect(() => model.logProb([-1, 1], 2)).toThrow("expected ids below 4, got -1");
    expect(() => model.bits([[1]], {})).toThrow("includeEnd: expected true or false, got undefined");
    expect(() => model.bits([[9]], { includeEnd: true })).toThrow("bits: document 0");
    expect(() => model.bits([[1]], { includeEnd: true, ends: 1 })).toThrow('unknown option "ends"');
  });
});
