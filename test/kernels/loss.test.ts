import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { AbortError, InputError } from "../../src/errors.js";
import type { HeadWeights } from "../../src/kernels/device.js";
import type { LossGradients, LossQuery } from "../../src/kernels/loss.js";
import { checkLoss } from "../../src/kernels/validate-loss.js";
import { devices } from "../devices.js";
import { differences, type Plain, plainLoss, widen } from "./plain-loss.js";
import { distance, floatSource, floats, randomSource } from "./random.js";

describe.each(devices)("Device.loss: %s", async (name, open) => {
  const device = await open();
  afterAll(() => device.close());

  async function head(
    D: number,
    weight: Float32Array,
    rest: Partial<HeadWeights> = {},
  ): Promise<HeadWeights> {
    const rows = weight.length / D;
    const matrix = await device.matrix(floatSource("head", rows, D, weight));
    return { matrix, vocabSize: rows, scale: 1, ...rest };
  }

  const none: LossGradients = { hidden: false };
  /** A query of one id a row, coefficient 1. */
  const targets = (ids: number[], gradients = none): LossQuery => ({
    ids: Int32Array.from(ids),
    perRow: 1,
    coefficients: new Float32Array(ids.length).fill(1),
    gradients,
  });

  it("gives the gradients that central differences of L give, for every mixture of its terms", async () => {
    const shapes = fc.record({
      V: fc.integer({ min: 1, max: 40 }),
      D: fc.integer({ min: 1, max: 7 }),
      N: fc.integer({ min: 0, max: 4 }),
      perRow: fc.nat(3),
      padding: fc.nat(2),
      seed: fc.integer(),
      uniform: fc.boolean(),
      weighted: fc.boolean(),
      squares: fc.boolean(),
      teacher: fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }),
      bias: fc.constantFrom("none", "some", "masks"),
      scale: fc.constantFrom(1, 0.5, -2),
      softcap: fc.constantFrom(undefined, 1.5, 30),
    });
    await fc.assert(
      fc.asyncProperty(shapes, async (s) => {
        const { V, D, N, seed, perRow } = s;
        // Without a cap, a masked id may be seen by log-sum-exp only.
        const masks = s.bias === "masks" && s.scale > 0 && V > 1;
        const masked = masks && s.softcap === undefined && !s.teacher;
        const bias = s.bias === "none" ? undefined : floats(V, seed + 1, 2);
        if (bias && (masked || (masks && s.softcap !== undefined))) bias[V - 1] = -Infinity;
        // Rows above vocabSize are padding, larger than all, and must never be seen.
        const weight = Float32Array.from([
          ...floats(V * D, seed, 2),
          ...new Float32Array(s.padding * D).fill(99),
        ]);
        const { scale, softcap } = s;
        const h = await head(D, weight, { vocabSize: V, bias, scale, softcap });
        const hidden = floats(N * D, seed + 2, 2);
        const classWeights = s.weighted ? floats(V, seed + 3).map(Math.abs) : undefined;
        if (masked && classWeights) classWeights[V - 1] = 0;
        const next = floats(N * perRow, seed + 4);
        const E = s.teacher;
        const teacherWeight = floats(V * (E ?? 0), seed + 5, 2);
        const teacher = E
          ? {
              head: await head(E, teacherWeight, { softcap: 3 }),
              hidden: floats(N * E, seed + 6, 2),
              soft: floats(N, seed + 7),
            }
          : undefined;
        const zeros = new Float32Array(weight.length);
        const gradient = await device.matrix(
          floatSource("gradient", V + s.padding, D, zeros.fill(0.5, V * D)),
        );
        const biasGradient = bias && floats(V, seed + 8);
        const before = biasGradient?.slice();
        const query: LossQuery = {
          ids: Int32Array.from(next, (x) => Math.floor(((x + 1) / 2) * (masked ? V - 1 : V))),
          perRow,
          coefficients: floats(N * perRow, seed + 9, 2),
          uniform: s.uniform && !(masked && !s.weighted) ? floats(N, seed + 10, 0.1) : undefined,
          classWeights,
          squares: s.squares ? floats(N, seed + 11, 0.1) : undefined,
          teacher,
          gradients: { hidden: true, weight: gradient, bias: biasGradient },
        };
        const answer = await device.loss(h, hidden, query);

        const plain: Plain = {
          weight: widen(weight.subarray(0, V * D)),
          bias: bias && widen(bias),
          scale,
          softcap,
        };
        const x = widen(hidden);
        const L = () =>
          plainLoss(plain, x, V, N, query, { weight: widen(teacherWeight), scale: 1, softcap: 3 });
        const close = (got: ArrayLike<number> | undefined, want: Float64Array, name: string) => {
          const most = want.reduce((m, v) => Math.max(m, Math.abs(v)), 1);
          expect(got?.length, name).toBe(want.length);
          want.forEach((v, i) => {
            expect(Math.abs((got?.[i] ?? NaN) - v), `${name} ${i}`).toBeLessThan(1e-5 * most);
          });
        };
        close(answer.dHidden, differences(x, L), "hidden");
        const all = await gradient.gather(Array.from({ length: V + s.padding }, (_, i) => i));
        close(all.subarray(0, V * D), differences(plain.weight, L), "weight");
        expect(all.subarray(V * D).every((v) => v === 0.5)).toBe(true);
        if (plain.bias && biasGradient && before)
          close(
            biasGradient.map((v, i) => v - before[i]),
            differences(plain.bias, L),
            "bias",
          );
        if (masked) expect(biasGradient?.[V - 1]).toBe(before?.[V - 1]);
        for (const matrix of [h.matrix, gradient, teacher?.head.matrix]) matrix?.free();
      }),
      { numRuns: 150 },
    );
  });

  it("answers with the bits of ask, and sums of logits, over several shards", async () => {
    const [V, D, N] = [2500, 5, 3];
    const weight = floats(V * D, 1, 2);
    const h = await head(D, weight, { bias: floats(V, 2), softcap: 4, scale: 1.5 });
    const teacher = await head(2, floats(V * 2, 3, 3));
    const hidden = floats(N * D, 4, 2);
    const teacherHidden = floats(N * 2, 5, 2);
    const classWeights = floats(V, 6).map(Math.abs);
    const ids = Int32Array.from({ length: N * 2 }, (_, i) => (i * 977) % V);
    const answer = await device.loss(h, hidden, {
      ids,
      perRow: 2,
      coefficients: new Float32Array(N * 2),
      uniform: new Float32Array(N),
      classWeights,
      teacher: { head: teacher, hidden: teacherHidden, soft: new Float32Array(N) },
      gradients: none,
    });
    const query = { topK: 0, rank: false, logSumExp: true, entropy: false, logits: true };
    const asked = await device.ask(h, hidden, { ...query, targets: { ids, perRow: 2 } });
    expect(answer.targetLogits).toEqual(asked.targetLogits);
    expect(answer.logSumExp).toEqual(asked.logSumExp);
    const t = await device.ask(teacher, teacherHidden, query);
    for (let n = 0; n < N; n++) {
      let [classes, soft] = [0, 0];
      for (let c = 0; c < V; c++) {
        const y = asked.logits?.[n * V + c] ?? NaN;
        classes += classWeights[c] * y;
        soft += Math.exp((t.logits?.[n * V + c] ?? NaN) - (t.logSumExp?.[n] ?? NaN)) * y;
      }
      expect(distance([answer.weightedLogits?.[n] ?? NaN], [classes])).toBeLessThan(1e-6);
      expect(distance([answer.teacherLogits?.[n] ?? NaN], [soft])).toBeLessThan(1e-6);
    }
    expect(Object.keys(answer).sort()).toEqual([
      "logSumExp",
      "targetLogits",
      "teacherLogits",
      "weightedLogits",
    ]);
  });

  it("adds to what a weight's and a bias's gradient held, by hand", async () => {
    // Logits 0 and ln 3: p = [1/4, 3/4]; target 0; so dL/dy = [-3/4, 3/4].
    const bias = Float32Array.of(0, Math.log(3));
    const h = await head(2, new Float32Array(4), { bias });
    const weight = await device.matrix(floatSource("gradient", 2, 2, Float32Array.of(1, 2, 3, 4)));
    const biasGradient = Float32Array.of(10, 20);
    const answer = await device.loss(
      h,
      Float32Array.of(2, -1),
      targets([0], { hidden: true, weight, bias: biasGradient }),
    );
    expect(answer.logSumExp[0]).toBeCloseTo(Math.log(4), 6);
    expect(distance(answer.dHidden ?? [], [0, 0])).toBeLessThan(1e-6);
    expect(distance(await weight.gather([0, 1]), [-0.5, 2.75, 4.5, 3.25])).toBeLessThan(1e-6);
    expect(distance(biasGradient, [9.25, 20.75])).toBeLessThan(1e-6);
  });

  it("gives each row the bits it has alone, and nothing for no rows", async () => {
    const [V, D, N] = [70, 6, 5];
    const h = await head(D, floats(V * D, 1, 2));
    const hidden = floats(N * D, 2, 2);
    const together = await device.loss(h, hidden, targets([1, 69, 0, 33, 1], { hidden: true }));
    for (const [n, id] of [1, 69, 0, 33, 1].entries()) {
      const rows = hidden.slice(n * D, (n + 1) * D);
      const alone = await device.loss(h, rows, targets([id], { hidden: true }));
      expect(alone.dHidden).toEqual(together.dHidden?.slice(n * D, (n + 1) * D));
      expect(alone.logSumExp[0]).toBe(together.logSumExp[n]);
    }
    expect(await device.loss(h, new Float32Array(0), targets([], { hidden: true }))).toEqual({
      logSumExp: new Float64Array(0),
      targetLogits: new Float32Array(0),
      dHidden: new Float32Array(0),
    });
  });

  it("refuses what does not fit, and adds nothing then", async () => {
    const bias = Float32Array.of(0, -Infinity, 1);
    const h = await head(2, floats(6, 1), { bias });
    const other = await head(3, floats(9, 1));
    const four = await head(2, floats(8, 1));
    const half = await device.matrix({
      ...floatSource("half", 3, 2, floats(6, 1)),
      type: "f16",
      read: async () => new Uint8Array(12),
    });
    const weight = await device.matrix(floatSource("gradient", 3, 2, new Float32Array(6)));
    const biasGradient = new Float32Array(3);
    const hidden = Float32Array.of(1, 2, 3, 4);
    const good = targets([0, 2], { hidden: true, weight, bias: biasGradient });
    const row = Float32Array.of(1, 1);
    const bad: [RegExp, object, Float32Array?, HeadWeights?][] = [
      [/3 numbers are not whole hidden rows of 2/, {}, hidden.subarray(1)],
      [/hidden: row 1 holds NaN at column 0/, {}, Float32Array.of(1, 2, NaN, 3)],
      [/unknown option "reduction"/, { reduction: "mean" }],
      [/perRow: expected a whole number from 0, got 0.5/, { perRow: 0.5 }],
      [/2 rows of 2 ids take 4, but 2 came/, { perRow: 2 }],
      [/row 1: id 3 is not in the vocabulary \[0, 3\)/, { ids: Int32Array.of(0, 3) }],
      [/row 0: id -1 is not/, { ids: Int32Array.of(-1, 0) }],
      [/coefficients: 2 rows of 1 take 2 numbers, but 1 came/, { coefficients: row.subarray(1) }],
      [/coefficients: row 1 holds Infinity/, { coefficients: Float32Array.of(1, Infinity) }],
      [/uniform: row 0 holds NaN/, { uniform: Float32Array.of(NaN, 1) }],
      [/squares: 2 rows of 1 take 2 numbers, but 3 came/, { squares: new Float32Array(3) }],
      [/classWeights: expected 3 numbers, one an id, got 2/, { classWeights: row }],
      [/expected finite numbers from 0, got -1 at id 1/, { classWeights: Float32Array.of(1, -1, 0) }],
      [/teacher's vocabulary has 4 ids and the head's 3/, { teacher: { head: four, hidden, soft: row } }],
      [
        /teacher.hidden: 2 rows of 3 take 6 numbers, but 4 came/,
        { teacher: { head: other, hidden, soft: row } },
      ],
      [
        /teacher.soft: 2 rows of 1 take 2 numbers, but 0 came/,
        { teacher: { head: h, hidden, soft: new Float32Array(0) } },
      ],
      [/unknown option "weights"/, { gradients: { hidden: true, weights: weight } }],
      [/gradients.hidden: expected true or false/, { gradients: {} }],
      [
        /expected an f32 matrix \[3, 2\] like "head", got f32 \[4, 2\]/,
        { gradients: { hidden: true, weight: four.matrix } },
      ],
      [/got f16 \[3, 2\]/, { gradients: { hidden: true, weight: half } }],
      [/is the weight matrix "head" itself/, { gradients: { hidden: true, weight: h.matrix } }],
      [/gradients.bias: expected 3 numbers/, { gradients: { hidden: true, bias: row } }],
      [/is the head's bias itself/, { gradients: { hidden: true, bias } }],
      [
        /the head has no bias/,
        { ids: Int32Array.of(0, 2), gradients: { hidden: true, bias: biasGradient } },
        hidden,
        { ...h, bias: undefined },
      ],
      [/softcap: expected a number above 0/, {}, hidden, { ...h, softcap: 0 }],
      [/row 1: its loss is infinite, for id 1/, { ids: Int32Array.of(0, 1) }],
      [/row 1: its loss is infinite, for id 1/, { uniform: Float32Array.of(0, 0.1) }],
      [/row 0: its loss is infinite/, { teacher: { head: { ...h, bias: undefined }, hidden, soft: row } }],
      [
        /row 0: (the logit of id 2 is |a logit is NaN or \+)Infinity/,
        {},
        hidden,
        { ...h, scale: 3e38, bias: Float32Array.of(-9, -9, 9) },
      ],
      [
        /row 0: every logit is -Infinity/,
        { coefficients: new Float32Array(2) },
        hidden,
        { ...h, bias: bias.map(() => -Infinity) },
      ],
    ];
    for (const [message, change, rows = hidden, weights = h] of bad) {
      const call = device.loss(weights, rows, { ...good, ...change });
      await expect(call, String(message)).rejects.toThrow(message);
      await expect(call).rejects.toBeInstanceOf(InputError);
    }
    // Devices check this before any work, where they can.
    const masked = { ...good, ids: Int32Array.of(0, 1) };
    expect(() => checkLoss(h, hidden, masked)).toThrow(/row 1: its loss is infinite, for id 1/);
    expect(() => checkLoss({ ...h, softcap: 5 }, hidden, masked)).not.toThrow();
    expect(() => checkLoss(h, hidden, { ...good, uniform: row })).toThrow(/row 0: its loss is infinite/);
    // The WebAssembly device finds an infinite logit after its gradients are under way.
    if (name === "reference") {
      expect(await weight.gather([0, 1, 2])).toEqual(new Float32Array(6));
      expect(biasGradient).toEqual(new Float32Array(3));
    }
    // A masked id may take part where it counts for nothing.
    const fine = await device.loss(h, hidden, {
      ...targets([1, 1]),
      coefficients: new Float32Array(2),
      uniform: row,
      classWeights: Float32Array.of(1, 0, 1),
    });
    expect(Array.from(fine.targetLogits)).toEqual([-Infinity, -Infinity]);
    expect(fine.weightedLogits?.every(Number.isFinite)).toBe(true);
  });

  it("can be aborted, and has then added nothing", async () => {
    const [V, D, N] = [20_000, 64, 400];
    const h = await head(D, floats(V * D, 1), { bias: new Float32Array(V) });
    const biasGradient = new Float32Array(V);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 30);
    const call = device.loss(
      h,
      floats(N * D, 2),
      targets(new Array(N).fill(7), { hidden: true, bias: biasGradient }),
      controller.signal,
    );
    await expect(call).rejects.toBeInstanceOf(AbortError);
    expect(biasGradient.every((x) => x === 0)).toBe(true);
    h.matrix.free();
  });

  it("a head and a teacher in 8-bit blocks have the log-sum-exps of ask", async () => {
    const [V, D, N] = [50, 64, 5];
    const matrix = await device.matrix(randomSource("Q8_0", V, D, 3));
    const head = { matrix, vocabSize: V, scale: 1 };
    const hidden = floats(N * D, 5);
    const ids = Int32Array.of(1, 2, 3, 4, 5);
    const coefficients = new Float32Array(N).fill(1);
    const teacher = { head, hidden, soft: new Float32Array(N).fill(1) };
    const gradients = { hidden: false };
    const loss = await device.loss(head, hidden, { ids, perRow: 1, coefficients, teacher, gradients });
    const ask = { topK: 0, rank: false, logSumExp: true, entropy: true, logits: false };
    const { logSumExp, entropy } = await device.ask(head, hidden, ask);
    for (let n = 0; n < N; n++) {
      expect(Math.abs(loss.logSumExp[n] - logSumExp![n])).toBeLessThan(1e-6);
      // Its own teacher: lse - Σ p·y is the entropy.
      expect(Math.abs(loss.logSumExp[n] - loss.teacherLogits![n] - entropy![n])).toBeLessThan(1e-5);
    }
    matrix.free();
  });
});
