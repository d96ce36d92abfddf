import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Batch, Batches, IGNORE } from "../../../src/train/data/batches.js";
import { memoryIds } from "../../../src/train/data/ids.js";
import { permutation, uniform } from "../../../src/train/data/random.js";
import { splitIds } from "../../../src/train/data/split.js";

const END = 0;

/** Documents whose every token is another number, so that where it lands can be told. */
function numbered(lengths: readonly number[]): number[][] {
  let next = 1;
  return lengths.map((length) => Array.from({ length }, () => next++));
}

const lengths = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 12 });
const shape = fc.record({ length: fc.integer({ min: 1, max: 9 }), size: fc.integer({ min: 1, max: 4 }) });
const documents = fc.constantFrom("separate" as const, "joined" as const);

function batchesOf(
  documents: readonly number[][],
  endOfText: number | undefined,
  options: ConstructorParameters<typeof Batches>[1],
): Batches | undefined {
  try {
    return new Batches(memoryIds("corpus", documents, { endOfText }), options);
  } catch {
    return undefined;
  }
}

/** How often each id was predicted. */
function predictions(batches: readonly Batch[]): Map<number, number> {
  const times = new Map<number, number>();
  for (const { targets } of batches)
    for (const id of targets) if (id !== IGNORE) times.set(id, (times.get(id) ?? 0) + 1);
  return times;
}

async function all(batches: Batches): Promise<Batch[]> {
  const list: Batch[] = [];
  for await (const batch of batches.inOrder()) list.push(batch);
  return list;
}

test("each token is predicted exactly once an epoch, in either order and either way of packing", async () => {
  let ran = 0;
  await fc.assert(
    fc.asyncProperty(
      lengths,
      shape,
      documents,
      fc.boolean(),
      fc.nat(),
      async (sizes, shape, how, ends, seed) => {
        const texts = numbered(sizes);
        const batches = batchesOf(texts, ends ? END : undefined, { ...shape, seed, documents: how });
        if (!batches) return;
        ran++;
        // With an end of text every token is predicted, and it itself once a document; else first tokens are not.
        const expected = new Map<number, number>();
        for (const [i, text] of texts.entries())
          for (const [j, id] of text.entries())
            if (ends || j > 0 || (how === "joined" && i > 0)) expected.set(id, 1);
        if (ends) expected.set(END, texts.length);
        const count = [...expected.values()].reduce((a, b) => a + b, 0);
        expect(batches.predicted).toBe(count);

        const inOrder = await all(batches);
        expect(predictions(inOrder)).toEqual(expected);
        expect(inOrder.reduce((sum, { predicted }) => sum + predicted, 0)).toBe(count);

        // `size` epochs are a whole number of batches.
        const steps = Array.from({ length: batches.sequences }, (_, step) => step);
        const shuffled = await Promise.all(steps.map((step) => batches.batch(step)));
        const times = new Map([...expected].map(([id, n]) => [id, n * shape.size]));
        expect(predictions(shuffled)).toEqual(times);
        expect(batches.epochAt(batches.sequences)).toBe(shape.size);
      },
    ),
    { numRuns: 400 },
  );
  expect(ran).toBeGreaterThan(150);
});

test("a target is what follows its row; segments keep documents apart", async () => {
  let ran = 0;
  await fc.assert(
    fc.asyncProperty(lengths, shape, documents, fc.boolean(), async (sizes, shape, how, ends) => {
      const texts = numbered(sizes);
      const batches = batchesOf(texts, ends ? END : undefined, { ...shape, documents: how });
      if (!batches) return;
      ran++;
      const owner = new Map(texts.flatMap((text, i) => text.map((id) => [id, i] as const)));
      for (const { ids, targets, segments, size } of await all(batches)) {
        expect(ids.length).toBe(size * shape.length);
        expect(targets.length).toBe(ids.length);
        expect(segments.reduce((a, b) => a + b, 0)).toBe(ids.length);
        expect(segments.every((rows) => rows > 0)).toBe(true);
        if (how === "joined") expect([...segments]).toEqual(Array(size).fill(shape.length));
        let row = 0;
        const starts = new Set<number>();
        for (const rows of segments) {
          starts.add(row);
          const read = [...ids.subarray(row, row + rows)];
          const next = [...targets.subarray(row, row + rows)].filter((id) => id !== IGNORE);
          const inside = new Set([...read, ...next].filter((id) => id !== END).map((id) => owner.get(id)));
          if (how === "separate") expect(inside.size).toBeLessThanOrEqual(1);
          if (how === "separate") expect(read.slice(1)).not.toContain(END);
          row += rows;
        }
        for (let i = 0; i < size; i++) expect(starts.has(i * shape.length)).toBe(true);
        for (let i = 0; i + 1 < ids.length; i++) {
          const sameRow = (i + 1) % shape.length !== 0;
          if (sameRow && targets[i] !== IGNORE) expect(targets[i]).toBe(ids[i + 1]);
          if (targets[i] > 1 && ids[i] !== END) expect([targets[i], END]).toContain(ids[i] + 1);
        }
      }
    }),
    { numRuns: 300 },
  );
  expect(ran).toBeGreaterThan(100);
});

test("by hand: two documents with an end of text, sequences of four", async () => {
  const source = memoryIds(
    "corpus",
    [
      [1, 2, 3],
      [4, 5],
    ],
    { endOfText: END },
  );
  const batches = new Batches(source, { length: 4, size: 2 });
  // The row is 0 1 2 3 0 4 5 0: seven are predicted, and the second sequence begins one early to be full.
  const [batch] = await all(batches);
  expect([...batch.ids]).toEqual([0, 1, 2, 3, 3, 0, 4, 5]);
  expect([...batch.targets]).toEqual([1, 2, 3, 0, IGNORE, 4, 5, 0]);
  expect([...batch.segments]).toEqual([4, 1, 3]);
  expect([batch.size, batch.predicted, batches.sequences, batches.predicted]).toEqual([2, 7, 2, 7]);
});

test("by hand: two documents with nothing between", async () => {
  const source = memoryIds("corpus", [
    [1, 2, 3],
    [4, 5, 6],
  ]);
  const [batch] = await all(new Batches(source, { length: 3, size: 2 }));
  expect([...batch.ids]).toEqual([1, 2, 3, 3, 4, 5]);
  expect([...batch.targets]).toEqual([2, 3, IGNORE, IGNORE, 5, 6]);
  expect([...batch.segments]).toEqual([3, 1, 2]);
});

test("a batch depends on its step alone", async () => {
  await fc.assert(
    fc.asyncProperty(
      lengths,
      shape,
      fc.nat(),
      fc.array(fc.nat(60), { maxLength: 8 }),
      async (sizes, shape, seed, steps) => {
        const texts = numbered(sizes);
        const [used, fresh] = [0, 1].map(() => batchesOf(texts, END, { ...shape, seed }));
        if (!used || !fresh) return;
        for (const step of steps) await used.batch(step);
        expect(await used.batch(17)).toEqual(await fresh.batch(17));
      },
    ),
  );
});

test("epochs and seeds have orders of their own, drawn the same everywhere", async () => {
  const source = memoryIds("corpus", numbered([4000]));
  const firsts = async (seed: number, epoch: number) => {
    const batches = new Batches(source, { length: 10, size: 1, seed });
    const list: number[] = [];
    for (let i = 0; i < batches.sequences; i++)
      list.push((await batches.batch(epoch * batches.sequences + i)).ids[0]);
    return list;
  };
  const orders = await Promise.all([firsts(0, 0), firsts(0, 1), firsts(1, 0), firsts(2 ** 40, 0)]);
  expect(new Set(orders.map(String)).size).toBe(4);
  for (const order of orders)
    expect([...order].sort((a, b) => a - b)).toEqual([...orders[0]].sort((a, b) => a - b));
  expect([...permutation(8, 1, 2)]).toEqual([...permutation(8, 1, 2)]);
});

test("permutations are uniform", () => {
  // Of 24,000 draws each of the 24 orders of 4 comes 1000 times, give or take 31: chi-squared of 23 degrees.
  const times = new Map<string, number>();
  for (let stream = 0; stream < 24_000; stream++) {
    const order = String([...permutation(4, 7, stream)]);
    times.set(order, (times.get(order) ?? 0) + 1);
  }
  expect(times.size).toBe(24);
  let chi = 0;
  for (const n of times.values()) chi += (n - 1000) ** 2 / 1000;
  expect(chi).toBeLessThan(49.7); // 1 in 1000
  const mean = Array.from({ length: 10_000 }, (_, i) => uniform(3, 4, i)).reduce((a, b) => a + b) / 10_000;
  expect(Math.abs(mean - 0.5)).toBeLessThan(0.01);
});

describe("validation", () => {
  test("shares no token with training, and nothing is lost but the gap", async () => {
    let ran = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 20 }),
        fc.double({ min: 0.01, max: 0.9, noNaN: true }),
        fc.nat(),
        fc.nat(4),
        documents,
        async (sizes, validation, seed, gap, how) => {
          const texts = numbered(sizes);
          const source = memoryIds("corpus", texts, { endOfText: END });
          let split: ReturnType<typeof splitIds>;
          try {
            split = splitIds(source, { validation, seed, gap });
          } catch {
            expect(sizes.length).toBe(1);
            return;
          }
          const seen = await Promise.all(
            [split.training, split.validation].map(async (spans) => {
              const ids = new Set<number>();
              for (const { start, end } of spans) for (const id of await source.read(start, end)) ids.add(id);
              ids.delete(END);
              return ids;
            }),
          );
          expect([...seen[0]].filter((id) => seen[1].has(id))).toEqual([]);
          const lost = texts.flat().length - seen[0].size - seen[1].size;
          expect(lost).toBeLessThanOrEqual(sizes.length === 1 ? gap : 0);
          expect(split.training.length > 0 && split.validation.length > 0).toBe(true);
          for (const [i, spans] of [split.training, split.validation].entries()) {
            let batches: Batches;
            try {
              batches = new Batches(source, { length: 3, size: 1, spans, documents: how });
            } catch {
              continue;
            }
            ran++;
            const read = new Set((await all(batches)).flatMap(({ ids, targets }) => [...ids, ...targets]));
            for (const id of read) if (id > END) expect(seen[i].has(id)).toBe(true);
            expect([...seen[i]].filter((id) => !read.has(id))).toEqual([]);
          }
        },
      ),
      { numRuns: 200 },
    );
    expect(ran).toBeGreaterThan(100);
  });

  test("a document keeps its side when others come after it", () => {
    const sizes = Array.from({ length: 300 }, (_, i) => 1 + (i % 5));
    const held = (count: number) => {
      const source = memoryIds("corpus", numbered(sizes.slice(0, count)));
      const { validation } = splitIds(source, { seed: 5 });
      return [...source.documents.slice(0, -1).keys()].filter((i) =>
        validation.some(({ start, end }) => start <= source.documents[i] && source.documents[i] < end),
      );
    };
    expect(held(300).filter((i) => i < 200)).toEqual(held(200));
    expect(held(300).length).toBeGreaterThan(15);
    expect(held(300).length).toBeLessThan(50);
  });

  test("documents of the same key fall on the same side, wherever they stand", () => {
    const keys = Array.from({ length: 400 }, (_, i) => (i * 7) % 40);
    const source = memoryIds("corpus", numbered(keys.map(() => 2)));
    for (let seed = 0; seed < 20; seed++) {
      const { validation } = splitIds(source, { seed, keys });
      const side = keys.map((_, i) =>
        validation.some(({ start, end }) => start <= source.documents[i] && source.documents[i] < end),
      );
      expect(new Set(side).size).toBe(2);
      for (const [i, key] of keys.entries()) expect(side[i]).toBe(side[keys.indexOf(key)]);
    }
    expect(() => splitIds(source, { keys: keys.map(() => 3) })).toThrow("all have the same text");
    expect(() => splitIds(source, { keys: [1, 2] })).toThrow("has 400 documents, but got 2");
    expect(() => splitIds(source, { keys: keys.map((key) => -key) })).toThrow("expected whole numbers");
  });

  test("of one document the end, after a gap", () => {
    const source = memoryIds("corpus", numbered([1000]));
    expect(splitIds(source, { validation: 0.1 })).toEqual({
      training: [{ start: 0, end: 890 }],
      validation: [{ start: 900, end: 1000 }],
    });
  });
});

describe("refuses", () => {
  const source = memoryIds("corpus.txt", numbered([10, 10]));
  const make = (options: object) => () => new Batches(source, { length: 4, size: 2, ...options });
  test("what does not fit", () => {
    expect(make({ length: 20 })).toThrow(
      "corpus.txt: sequences of 20 positions need 21 tokens, but there are 20",
    );
    expect(make({ size: 6 })).toThrow("20 tokens make 5 sequences of 4 positions, but a batch has 6");
    expect(() => splitIds(memoryIds("one", [[1, 2]]), { validation: 0.9, gap: 1 })).toThrow("no room");
    expect(() => memoryIds("none", [[], []])).toThrow("no tokens");
    expect(() => memoryIds("bad", [[1.5]])).toThrow("got 1.5 at position 0");
  });
  test("options out of range", async () => {
    for (const options of [{ length: 0 }, { length: 1.5 }, { size: 0 }, { seed: -1 }, { documents: "both" }])
      expect(make(options)).toThrow(`Batches: ${Object.keys(options)[0]}: expected`);
    expect(make({ shuffle: true })).toThrow('unknown option "shuffle"');
    for (const spans of [
      [{ start: 5, end: 5 }],
      [{ start: 0, end: 21 }],
      [
        { start: 10, end: 20 },
        { start: 0, end: 10 },
      ],
    ])
      expect(make({ spans })).toThrow(/spans|positions/);
    expect(
      make({
        spans: [
          { start: 0, end: 8 },
          { start: 10, end: 20 },
        ],
      }),
    ).toThrow("whole documents");
    expect(make({ spans: [] })).toThrow("there are 0");
    for (const step of [-1, 0.5, Number.NaN, 2 ** 53])
      await expect(make({})().batch(step)).rejects.toThrow("step: expected");
    for (const options of [{ validation: 0 }, { validation: 1 }, { seed: 0.5 }, { gap: -1 }, { share: 0.1 }])
      expect(() => splitIds(source, options)).toThrow(Object.keys(options)[0]);
    await expect(source.read(5, 21)).rejects.toThrow("expected positions within [0, 20)");
  });
});
