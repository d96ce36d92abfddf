import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { AbortError, InputError } from "../../../src/errors.js";
import type { HeadQuery, HeadWeights } from "../../../src/kernels/device.js";
import { logitsOf } from "../../../src/kernels/reference/ask.js";
import { ReferenceDevice } from "../../../src/kernels/reference/device.js";
import { shared, sharedPath } from "../../shared.js";
import { floatSource, floats } from "../random.js";

const device = new ReferenceDevice();
afterAll(() => device.close());

const nothing: HeadQuery = { topK: 0, rank: false, logSumExp: false, entropy: false, logits: false };

async function head(
  V: number,
  D: number,
  weight: Float32Array,
  rest: Partial<HeadWeights> = {},
): Promise<HeadWeights> {
  const matrix = await device.matrix(floatSource("head", weight.length / D, D, weight));
  return { matrix, vocabSize: V, scale: 1, ...rest };
}

/** A head that gives these logits for the hidden row [1]. */
const given = (logits: Float32Array) =>
  head(logits.length, 1, new Float32Array(logits.length), { bias: logits });
const one = Float32Array.of(1);

const everything = (N: number, V: number, k: number): HeadQuery => ({
  topK: k,
  targets: { ids: Int32Array.from({ length: N * 3 }, (_, i) => (i * 37) % V), perRow: 3 },
  rank: true,
  logSumExp: true,
  entropy: true,
  logits: true,
  sample: {
    temperature: 0.7,
    seed: 5,
    sequences: Int32Array.from({ length: N }, (_, n) => n % 2),
    steps: Int32Array.from({ length: N }, (_, n) => n),
  },
});

describe("an ask", () => {
  it("answers several questions together as each alone, and many rows as each alone", async () => {
    const shapes = fc.record({
      V: fc.integer({ min: 1, max: 2500 }),
      D: fc.integer({ min: 1, max: 9 }),
      N: fc.integer({ min: 0, max: 4 }),
      k: fc.nat(2500),
      seed: fc.integer(),
      cap: fc.constantFrom(undefined, 0.5, 30),
      coarse: fc.boolean(),
      bias: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(shapes, async ({ V, D, N, k, seed, cap, coarse, bias }) => {
        const round = (x: Float32Array) => (coarse ? x.map(Math.round) : x);
        // Rows above vocabSize are padding, larger than all, and must never be seen.
        const weight = Float32Array.from([
          ...round(floats(V * D, seed, 2)),
          ...new Float32Array(2 * D).fill(99),
        ]);
        const hidden = round(floats(N * D, seed + 1, 2));
        const h = await head(V, D, weight, {
          softcap: cap,
          scale: 1.25,
          bias: bias ? round(floats(V, seed + 2, 2)) : undefined,
        });
        const all = everything(N, V, Math.min(k, V));
        const together = await device.ask(h, hidden, all);
        const { targets, sample } = all;
        const alone = [
          await device.ask(h, hidden, { ...nothing, topK: all.topK }),
          await device.ask(h, hidden, { ...nothing, targets, rank: true }),
          await device.ask(h, hidden, { ...nothing, logSumExp: true }),
          await device.ask(h, hidden, { ...nothing, entropy: true }),
          await device.ask(h, hidden, { ...nothing, sample }),
          await device.ask(h, hidden, { ...nothing, logits: true }),
        ];
        expect(Object.assign({}, ...alone)).toEqual(together);
        expect(together.logits?.length).toBe(N * V);
        for (let n = 0; n < N; n++) {
          const row = await device.ask(h, hidden.slice(n * D, (n + 1) * D), {
            ...nothing,
            logSumExp: true,
            logits: true,
          });
          expect(row.logSumExp?.[0]).toBe(together.logSumExp?.[n]);
          expect(row.logits).toEqual(together.logits?.slice(n * V, (n + 1) * V));
        }
        h.matrix.free();
      }),
      { numRuns: 40 },
    );
  });

  it("has just the fields that were asked", async () => {
    const h = await head(3, 1, floats(3, 1));
    expect(await device.ask(h, one, nothing)).toEqual({ screened: 0, fellBack: 0 });
    const some = await device.ask(h, one, { ...nothing, topK: 3, entropy: true });
    expect(Object.keys(some).sort()).toEqual(["entropy", "fellBack", "screened", "topIds", "topLogits"]);
  });

  it("rounds to float32 after product, bias, scale and cap", () => {
    const formula = { weight: Float32Array.of(1, 2 ** -30), D: 2, vocabSize: 1, scale: 1 / 3, softcap: 2 };
    const bias = Float32Array.of(0.1);
    const hidden = Float32Array.of(1, 1);
    const f = Math.fround;
    const capped = f(2 * Math.tanh(f(f(1 + f(0.1)) * (1 / 3)) / 2));
    expect(logitsOf({ ...formula, bias }, hidden, 0, 1)[0]).toBe(capped);
  });

  it("can be aborted in between shards", async () => {
    const h = await head(40_000, 512, floats(40_000 * 512, 1));
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    const began = performance.now();
    const asked = device.ask(h, floats(512 * 100, 2), { ...nothing, logSumExp: true }, controller.signal);
    await expect(asked).rejects.toThrow(AbortError);
    expect(performance.now() - began).toBeLessThan(1000); // the whole ask takes several seconds
    h.matrix.free();
  });

  it("refuses what makes no sense, naming it", async () => {
    const h = await head(5, 2, floats(10, 1));
    const row = floats(2, 2);
    const refused = async (over: Partial<HeadQuery>, message: string | RegExp, hidden = row, weights = h) => {
      const promise = device.ask(weights, hidden, { ...nothing, ...over });
      await expect(promise).rejects.toThrow(InputError);
      await expect(promise).rejects.toThrow(message);
    };
    const sample = { temperature: 1, seed: 1, sequences: new Int32Array(1), steps: new Int32Array(1) };
    await refused({ topK: 6 }, "topK: expected a whole number from 0 to the vocabulary's 5, got 6");
    await refused({ topK: 1.5 }, "topK");
    await refused({ rank: true }, "rank is of targets");
    await refused({ targets: { ids: Int32Array.of(5), perRow: 1 } }, "id 5 (at 0) is not in [0, 5)");
    await refused({ targets: { ids: Int32Array.of(-1), perRow: 1 } }, "id -1");
    await refused({ targets: { ids: Int32Array.of(1, 2), perRow: 1 } }, "take 1 ids, but 2 came");
    for (const temperature of [0, -1, Number.NaN, Infinity, 1e-60, 1e60])
      await refused({ sample: { ...sample, temperature } }, "temperature");
    for (const bad of [-1, 0.5, 2 ** 53]) await refused({ sample: { ...sample, seed: bad } }, "seed");
    await refused({ sample: { ...sample, steps: new Int32Array(2) } }, "sample.steps: expected 1");
    await refused({}, "3 numbers are not whole hidden rows of 2", floats(3, 1));
    await refused({}, "row 1 holds NaN at column 0", Float32Array.of(1, 2, Number.NaN, 4));
    await refused({}, "row 0 holds -Infinity at column 1", Float32Array.of(1, -Infinity));
    await refused({}, "bias: expected 5", row, { ...h, bias: new Float32Array(4) });
    await refused({}, "bias holds NaN at id 2", row, { ...h, bias: Float32Array.of(0, 0, Number.NaN, 0, 0) });
    await refused({}, "bias holds Infinity", row, { ...h, bias: new Float32Array(5).fill(Infinity) });
    await refused({}, "vocabSize", row, { ...h, vocabSize: 6 });
    await refused({}, "softcap", row, { ...h, softcap: 0 });
    await refused({ topk: 1 } as Partial<HeadQuery>, 'unknown option "topk"');
    const huge = Float32Array.of(1, 1, 3e38, 3e38);
    await refused({}, "row 1: the logit of id 0 is Infinity", huge, await head(1, 2, Float32Array.of(1, 1)));
    await refused(
      {},
      "row 0: every logit is -Infinity",
      one,
      await given(new Float32Array(9).fill(-Infinity)),
    );
  });
});

describe("a sample", () => {
  it.each([
    [0.6, 11],
    [1, 12],
    [1.9, 2 ** 40 + 3],
  ])(
    "at temperature %d and seed %d follows the softmax (chi-square, 20,000 draws)",
    async (temperature, seed) => {
      const logits = Float32Array.of(1, 0.3, -0.5, -Infinity, 2, 1.5, -1, 0, 0);
      const h = await given(logits);
      const N = 20000;
      const counts = new Float64Array(logits.length);
      const { sampleIds, sampleLogits } = await device.ask(h, new Float32Array(N).fill(1), {
        ...nothing,
        sample: {
          temperature,
          seed,
          sequences: Int32Array.from({ length: N }, (_, n) => n % 10),
          steps: Int32Array.from({ length: N }, (_, n) => Math.floor(n / 10)),
        },
      });
      for (const [n, id] of (sampleIds ?? []).entries()) {
        counts[id]++;
        expect(sampleLogits?.[n]).toBe(logits[id]);
      }
      const weights = logits.map((x) => Math.exp(x / temperature));
      const total = weights.reduce((a, b) => a + b);
      let chi = 0;
      for (const [id, weight] of weights.entries())
        if (weight > 0) chi += (counts[id] - (N * weight) / total) ** 2 / ((N * weight) / total);
      expect(counts[3]).toBe(0);
      expect(chi).toBeLessThan(24.3); // 7 degrees of freedom, p = 0.001
    },
  );

  it("depends on seed, sequence and step alone, not on the rows beside it", async () => {
    const h = await head(1500, 3, floats(4500, 3));
    const hidden = floats(3, 4);
    const draw = async (N: number, sequences: number[], steps: number[]) => {
      const sample = {
        temperature: 1,
        seed: 77,
        sequences: Int32Array.from(sequences),
        steps: Int32Array.from(steps),
      };
      const rows = Float32Array.from({ length: 3 * N }, (_, i) => hidden[i % 3]);
      return (await device.ask(h, rows, { ...nothing, sample })).sampleIds ?? [];
    };
    const many = await draw(4, [0, 0, 1, 1], [0, 1, 0, 1]);
    expect(new Set(many).size).toBeGreaterThan(1);
    for (const [n, [sequence, step]] of [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ].entries())
      expect((await draw(1, [sequence], [step]))[0]).toBe(many[n]);
  });
});

describe.skipIf(!shared)("cases/heads/extremes", () => {
  it("each row's sums, top 8, ranks and log-probabilities", async () => {
    const folder = sharedPath("cases/heads/extremes");
    const expected = JSON.parse(readFileSync(`${folder}/case.json`, "utf8"));
    const tensor = tensors(`${folder}/tensors.safetensors`);
    const V: number = expected.V;
    for (const [r, name] of (expected.rows as string[]).entries()) {
      const logits = tensor("logits").slice(r * V, (r + 1) * V);
      const h = await given(logits);
      const answer = await device.ask(h, one, {
        topK: V,
        targets: { ids: Int32Array.from(expected.rank_ids), perRow: 3 },
        rank: true,
        logSumExp: true,
        entropy: true,
        logits: true,
      });
      const close = (got: number, wanted: number, what: string) => {
        if (got === wanted || Math.fround(got) === wanted) return;
        expect(Math.abs(got - wanted), `${name}: ${what}: ${got} against ${wanted}`).toBeLessThanOrEqual(
          1e-6 + 1e-5 * Math.abs(wanted),
        );
      };
      expect(Array.from(answer.topIds?.subarray(0, 8) ?? []), name).toEqual(expected.top8_ids[r]);
      expect(Array.from(answer.targetRanks ?? []), name).toEqual(expected.ranks[r].map((x: number) => x + 1));
      const logSumExp = answer.logSumExp?.[0] ?? Number.NaN;
      close(logSumExp, tensor("logsumexp")[r], "log-sum-exp");
      // Two equal logits of 3e38 and nothing else: the entropy is ln 2. The case's float64 lost it in logit - logsumexp
      // (both log-probabilities are stored as 0, so its probabilities sum to 2); the fold keeps differences instead.
      const entropy = name.startsWith("near the f32 limits") ? Math.LN2 : tensor("entropy")[r];
      close(answer.entropy?.[0] ?? Number.NaN, entropy, "entropy");
      for (let id = 0; id < V; id++)
        close(
          (answer.logits?.[id] ?? Number.NaN) - logSumExp,
          tensor("logprobs")[r * V + id],
          `log-probability of ${id}`,
        );
    }
  });

  it.each([
    ["all -Infinity", [-Infinity, -Infinity]],
    ["one +Infinity", [1, Infinity]],
    ["one NaN", [1, Number.NaN]],
  ])("%s is a clear error", async (_, logits) => {
    await expect(device.ask(await given(Float32Array.from(logits)), one, nothing)).rejects.toThrow(
      InputError,
    );
  });
});

/** The tensors of a safetensors file of float32. */
function tensors(path: string): (name: string) => Float32Array {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, start));
  return (name) => {
    const [first, end] = header[name].data_offsets;
    return new Float32Array(new Uint8Array(bytes.subarray(start + first, start + end)).buffer);
  };
}
