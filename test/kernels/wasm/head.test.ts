import fc from "fast-check";
import { afterAll, describe, expect, it, vi } from "vitest";
import { AbortError, InputError } from "../../../src/errors.js";
import type { Device, HeadAnswer, HeadQuery, HeadWeights } from "../../../src/kernels/device.js";
import { ReferenceDevice } from "../../../src/kernels/reference/device.js";
import { Arena } from "../../../src/kernels/wasm/arena.js";
import { WasmDevice } from "../../../src/kernels/wasm/device.js";
import { distance, floatSource, floats, randomSource, storedBytes } from "../random.js";

const reference = new ReferenceDevice();
const wasm = await WasmDevice.start(2, "test");
const single = await WasmDevice.start(1, "test");
const unshared = await WasmDevice.start(0, "test");
afterAll(async () => {
  for (const device of [reference, wasm, single, unshared]) await device.close();
});

const nothing: HeadQuery = { topK: 0, rank: false, logSumExp: false, entropy: false, logits: false };
const everything = (N: number, V: number, k: number): HeadQuery => ({
  topK: k,
  rank: true,
  logSumExp: true,
  entropy: true,
  logits: true,
  targets: { ids: Int32Array.from({ length: N * 2 }, (_, i) => (i * 13) % V), perRow: 2 },
  sample: {
    temperature: 0.8,
    seed: 9,
    sequences: new Int32Array(N),
    steps: Int32Array.from({ length: N }, (_, i) => i),
  },
});
type Formula = Omit<HeadWeights, "matrix" | "vocabSize">;

async function build(
  device: Device,
  weight: Float32Array,
  V: number,
  D: number,
  formula: Formula,
): Promise<HeadWeights> {
  return { matrix: await device.matrix(floatSource("head", V, D, weight)), vocabSize: V, ...formula };
}

describe("the full pass", () => {
  it.each([
    [1, 1, 1],
    [15, 3, 1],
    [16, 4, 2],
    [17, 5, 3],
    [1025, 7, 4],
    [2500, 33, 65],
  ])("V=%i D=%i N=%i agrees with the reference in every answer", async (V, D, N) => {
    const weight = floats(V * D, 1);
    const hidden = floats(N * D, 2);
    const formula = { bias: floats(V, 3), scale: 1.5, softcap: 4 };
    const k = Math.min(V, 9);
    const expected = await reference.ask(
      await build(reference, weight, V, D, formula),
      hidden,
      everything(N, V, k),
    );
    let first: HeadAnswer | undefined;
    for (const device of [wasm, single, unshared]) {
      const head = await build(device, weight, V, D, formula);
      const got = await device.ask(head, hidden, everything(N, V, k));
      first ??= got;
      expect(got).toEqual(first);
      for (const field of [
        "logits",
        "topLogits",
        "targetLogits",
        "logSumExp",
        "entropy",
        "sampleLogits",
      ] as const)
        expect(distance(got[field] ?? [], expected[field] ?? []), field).toBeLessThan(2e-5);
      // Each question alone has the same bits as all together.
      const top = await device.ask(head, hidden, { ...nothing, topK: k });
      expect(top.topIds).toEqual(got.topIds);
      expect(top.topLogits).toEqual(got.topLogits);
      const sampled = await device.ask(head, hidden, { ...nothing, sample: everything(N, V, k).sample });
      expect(sampled.sampleIds).toEqual(got.sampleIds);
      const sum = await device.ask(head, hidden.subarray(0, D), { ...nothing, logSumExp: true });
      expect(sum.logSumExp?.[0]).toBe(got.logSumExp?.[0]);
      head.matrix.free();
    }
  });

  it.each(["bf16", "f16", "Q8_0", "Q4_0", "Q4_1", "Q5_1", "Q6_K"] as const)("%s weights", async (type) => {
    const V = 1100;
    const D = 256;
    const source = randomSource(type, V, D, 5);
    const hidden = floats(3 * D, 6);
    const query = everything(3, V - 7, 20);
    const [a, b] = await Promise.all(
      [reference, wasm].map(async (device) =>
        device.ask({ matrix: await device.matrix(source), vocabSize: V - 7, scale: 1 }, hidden, query),
      ),
    );
    expect(distance(b.logits ?? [], a.logits ?? [])).toBeLessThan(type.startsWith("Q") ? 3e-3 : 1e-4);
    expect(distance(b.topLogits ?? [], a.topLogits ?? [])).toBeLessThan(type.startsWith("Q") ? 3e-3 : 1e-4);
    expect(distance(b.logSumExp ?? [], a.logSumExp ?? [])).toBeLessThan(type.startsWith("Q") ? 3e-3 : 1e-4);
    // Activations meet integer weights as int16, so near ties may change places; the kernel's own ranks stand.
    const own = (n: number, id: number) =>
      1 +
      (b.logits ?? new Float32Array())
        .subarray(n * (V - 7), (n + 1) * (V - 7))
        .filter((x) => x > (b.logits?.[n * (V - 7) + id] ?? 0)).length;
    expect(Array.from(b.targetRanks ?? [])).toEqual(
      Array.from(query.targets?.ids ?? [], (id, i) => own(i >> 1, id)),
    );
  });

  it("k = V sorts the whole vocabulary", async () => {
    const V = 3000;
    const head = await build(wasm, floats(V * 4, 1), V, 4, { scale: 1 });
    const { topLogits, topIds } = await wasm.ask(head, floats(4, 2), { ...nothing, topK: V });
    expect(new Set(topIds).size).toBe(V);
    expect(Array.from(topLogits ?? [])).toEqual(Array.from(topLogits ?? []).sort((a, b) => b - a));
  });

  it("rows that have no distribution are errors", async () => {
    const head = await build(wasm, new Float32Array(20), 20, 1, {
      scale: 1,
      bias: new Float32Array(20).fill(-Infinity),
    });
    await expect(wasm.ask(head, Float32Array.of(1), { ...nothing, logSumExp: true })).rejects.toThrow(
      /every logit is -Infinity/,
    );
    await expect(wasm.ask(head, Float32Array.of(Number.NaN), { ...nothing, topK: 1 })).rejects.toThrow(
      /row 0/,
    );
    const huge = await build(wasm, new Float32Array(20).fill(3e38), 20, 1, { scale: 1 });
    await expect(wasm.ask(huge, Float32Array.of(100), { ...nothing, topK: 1 })).rejects.toThrow(
      /NaN or \+Infinity/,
    );
  });
});

describe.each([
  ["the full pass", 20],
  ["screening", 2100],
])("%s, samples at temperatures that take logits out of float32", (_, V) => {
  const sample = { temperature: 1e-38, seed: 3, sequences: new Int32Array(1), steps: new Int32Array(1) };
  const ask = async (device: Device, bias: Float32Array, over: object = {}) => {
    const head = await build(device, new Float32Array(V), V, 1, { scale: 1, bias });
    try {
      return await device.ask(head, Float32Array.of(1), { ...nothing, sample: { ...sample, ...over } });
    } finally {
      head.matrix.free();
    }
  };

  it.each([
    ["all above", () => 20],
    ["all below", () => -20],
    ["two above", (i: number) => (i === 3 ? 5 : i === 17 ? 20 : -1)],
    ["all below but those masked", (i: number) => (i % 3 === 0 ? -Infinity : -20 - i)],
  ])("%s: the same error everywhere", async (_, logit) => {
    const bias = Float32Array.from({ length: V }, (_, i) => logit(i));
    for (const device of [reference, wasm, single])
      await expect(ask(device, bias)).rejects.toThrow(
        `row 0: logits / temperature ${Math.fround(1e-38)} leave the range of float32; take a higher temperature`,
      );
  });

  it("one that stays inside wins", async () => {
    const bias = Float32Array.from({ length: V }, (_, i) => (i === 17 ? 1e-4 : -20));
    for (const device of [reference, wasm, single]) {
      expect((await ask(device, bias)).sampleIds).toEqual(Int32Array.of(17));
      expect((await ask(device, bias, { temperature: 1e-30 })).sampleIds).toEqual(Int32Array.of(17));
    }
  });
});

/** Heads that strain the bounds: equal rows, huge norms, one hot row, subnormals, saturated caps. */
const adversarial: [string, (i: number, d: number, x: number) => number][] = [
  ["ordinary", (_i, _d, x) => x],
  ["equal rows", (_i, d) => Math.sin(d)],
  ["huge norms", (i, _d, x) => x * (i % 97 === 0 ? 1e18 : 1)],
  ["one hot row", (i, _d, x) => (i === 1234 ? 100 : x * 1e-3)],
  ["subnormal", (_i, _d, x) => x * 1e-42],
  ["one large weight a row", (i, d, x) => (d === i % 3 ? 50 : x * 0.01)],
  ["zero rows", (i, _d, x) => (i % 2 ? 0 : x)],
  ["few values", (_i, _d, x) => Math.round(x)],
];

describe.each(adversarial)("screening, %s", (_, make) => {
  it("equals the full pass in index and bits", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 2048, max: 4100 }),
        fc.integer({ min: 1, max: 70 }),
        fc.constantFrom(1, 2, 10, 50),
        fc.integer({ min: 1, max: 1e6 }),
        fc.constantFrom<Formula>(
          { scale: 1 },
          { scale: -2 },
          { scale: 0.3, softcap: 5 },
          { scale: 30, softcap: 0.5 },
        ),
        fc.boolean(),
        async (V, D, k, seed, formula, withBias) => {
          const weight = floats(V * D, seed).map((x, at) => make(Math.floor(at / D), at % D, x));
          const hidden = floats(D, seed + 1, 3);
          const head = await build(wasm, weight, V, D, {
            ...formula,
            bias: withBias ? floats(V, seed + 2) : undefined,
          });
          const { sample } = everything(1, V, 1);
          const screened = await wasm.ask(head, hidden, { ...nothing, topK: k, sample });
          const full = await wasm.ask(head, hidden, { ...nothing, topK: k, sample, logSumExp: true });
          expect(screened.screened + screened.fellBack).toBe(1);
          expect(full.screened).toBe(0);
          expect(screened.topIds).toEqual(full.topIds);
          expect(screened.topLogits).toEqual(full.topLogits);
          expect(screened.sampleIds).toEqual(full.sampleIds);
          head.matrix.free();
        },
      ),
      { numRuns: 15, seed: 7 },
    );
  }, 120_000);
});

describe("on the caller's thread", () => {
  it("a pass over the vocabulary leaves room for timers, and an abort ends it on its way", async () => {
    const [V, D, N] = [20_000, 512, 256];
    const head = await build(unshared, floats(V * D, 1), V, D, { scale: 1 });
    const hidden = floats(N * D, 2);
    const ticks = async (work: Promise<unknown>) => {
      let count = 0;
      const timer = setInterval(() => count++, 1);
      await work;
      clearInterval(timer);
      return count;
    };
    // 2.6 G products: some hundred milliseconds, of which one op takes nearly all.
    const whole = await ticks(unshared.ask(head, hidden, { ...nothing, logSumExp: true }));
    expect(whole).toBeGreaterThan(2);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 1);
    const ended = await ticks(
      expect(unshared.ask(head, hidden, { ...nothing, logSumExp: true }, controller.signal)).rejects.toThrow(
        AbortError,
      ),
    );
    expect(ended).toBeLessThan(whole);
    head.matrix.free();
  });
});

describe("screening", () => {
  it.each(["the screen of head", "a screening"])("passes when there is no room for %s", async (what) => {
    const [V, D] = [2100, 33];
    const head = await build(single, floats(V * D, 1), V, D, { scale: 1 });
    const hidden = floats(2 * D, 2);
    const query = { ...nothing, topK: 5, sample: everything(2, V, 1).sample };
    const alloc = Arena.prototype.alloc;
    const spy = vi.spyOn(Arena.prototype, "alloc").mockImplementation(function (this: Arena, bytes, name) {
      if (name === what) throw new InputError(`${name} does not fit`);
      return alloc.call(this, bytes, name);
    });
    const before = single.memory;
    const full = await single.ask(head, hidden, query);
    if (what === "the screen of head") expect(single.memory).toBe(before);
    spy.mockRestore();
    expect(full).toMatchObject({ screened: 0, fellBack: 2 });
    // With room again it is screened, to the same answers.
    const screened = await single.ask(head, hidden, query);
    expect(screened).toEqual({ ...full, screened: 2, fellBack: 0 });
    head.matrix.free();
  });

  it.each(["f32", "bf16", "f16"] as const)("D above 2,048 and %s", async (type) => {
    const D = 2500;
    const matrix = await wasm.matrix(randomSource(type, 2100, D, 8));
    const head = { matrix, vocabSize: 2090, scale: 1 };
    const hidden = floats(D, 9);
    const screened = await wasm.ask(head, hidden, { ...nothing, topK: 5 });
    const full = await wasm.ask(head, hidden, { ...nothing, topK: 5, logSumExp: true });
    expect(screened.screened).toBe(1);
    expect(screened.topIds).toEqual(full.topIds);
    expect(screened.topLogits).toEqual(full.topLogits);
  });

  it("passes by rows that a thread's scratch does not hold, and changes nothing else in memory", async () => {
    const [V, D] = [2048, 82_944];
    const bytes = storedBytes("bf16", 1, D + 4096, 10);
    const matrix = await single.matrix({
      name: "wide",
      rows: V,
      cols: D,
      type: "bf16",
      // Row r is one long row from another place on.
      read: async (first, count) => {
        const out = new Uint8Array(count * D * 2);
        for (let i = 0; i < count; i++) {
          const from = ((first + i) * 37) % 4096;
          out.set(bytes.subarray(from * 2, (from + D) * 2), i * D * 2);
        }
        return out;
      },
    });
    const head = { matrix, vocabSize: V, scale: 1 };
    const hidden = floats(D, 11);
    const before = await matrix.gather([0, 15]);
    const full = await single.ask(head, hidden, { ...nothing, topK: 5, logSumExp: true });
    const top = await single.ask(head, hidden, { ...nothing, topK: 5 });
    expect(top).toMatchObject({ screened: 0, fellBack: 0 });
    expect(top.topIds).toEqual(full.topIds);
    expect(top.topLogits).toEqual(full.topLogits);
    expect(
      Buffer.compare(Buffer.from((await matrix.gather([0, 15])).buffer), Buffer.from(before.buffer)),
    ).toBe(0);
    matrix.free();
  });
});
