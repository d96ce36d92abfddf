import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { processLogits, type SamplingOptions, samplingOf } from "../../src/sampling/options.js";
import {
  applyTemperature,
  filterMinP,
  filterTopK,
  filterTopP,
  nucleus,
  penalizeRepetition,
  softmax,
} from "../../src/sampling/processors.js";
import { shared, sharedPath } from "../shared.js";
import { readTensors } from "../tensors.js";

interface Case {
  name: string;
  class: string;
  args: Record<string, number>;
  logits: string;
  input_ids: number[];
  output: string;
  kept: number;
  tie_at_boundary?: boolean;
}

function close(got: Float32Array, want: Float32Array): void {
  expect(got.length).toBe(want.length);
  for (let i = 0; i < got.length; i++) {
    expect(got[i] === -Infinity, `removed ${i}`).toBe(want[i] === -Infinity);
    if (want[i] !== -Infinity)
      expect(Math.abs(got[i] - want[i])).toBeLessThanOrEqual(1e-6 + 1e-6 * Math.abs(want[i]));
  }
}
const kept = (logits: Float32Array) => logits.filter((x) => x > -Infinity).length;

const apply: Record<string, (z: Float32Array, a: Record<string, number>, ids: number[]) => void> = {
  TemperatureLogitsWarper: (z, a) => applyTemperature(z, a.temperature),
  TopKLogitsWarper: (z, a) => filterTopK(z, a.top_k),
  TopPLogitsWarper: (z, a) => filterTopP(z, a.top_p),
  MinPLogitsWarper: (z, a) => filterMinP(z, a.min_p),
  RepetitionPenaltyLogitsProcessor: (z, a, ids) => penalizeRepetition(z, ids, a.penalty),
};

describe.skipIf(!shared)("against transformers", () => {
  const load = () => {
    const tensors = readTensors(sharedPath("cases/samplers/tensors.safetensors"));
    const find = (name: string) => tensors.get(name) ?? tensors.get(`logits.${name}`);
    const logits = (name: string) => {
      const found = find(name);
      if (!found) throw new Error(`no tensor ${name} among ${[...tensors.keys()].slice(0, 8)}`);
      return found.slice();
    };
    return logits;
  };
  it("each processor alone", () => {
    const logits = load();
    const { cases } = JSON.parse(readFileSync(sharedPath("cases/samplers/processors.json"), "utf8")) as {
      cases: Case[];
    };
    let tested = 0;
    for (const c of cases) {
      const extra = Object.keys(c.args).some(
        (k) => !["temperature", "top_k", "top_p", "min_p", "penalty", "filter_value"].includes(k),
      );
      if (!apply[c.class] || extra) continue;
      const z = logits(c.logits);
      apply[c.class](z, c.args, c.input_ids);
      if (c.tie_at_boundary) expect(kept(z), c.name).toBe(c.kept);
      else close(z, logits(c.output));
      tested++;
    }
    expect(tested).toBeGreaterThan(50);
  });

  it("chains in transformers' order", () => {
    const logits = load();
    const { cases } = JSON.parse(readFileSync(sharedPath("cases/samplers/order.json"), "utf8")) as {
      cases: (Case & {
        generation_config: Record<string, number | boolean>;
        steps: { class: string }[];
        probs: string;
      })[];
    };
    let tested = 0;
    for (const c of cases) {
      if (!c.steps.every((step) => apply[step.class])) continue;
      const g = c.generation_config as Record<string, number>;
      const options: SamplingOptions = {
        temperature: g.temperature,
        topK: g.top_k,
        topP: g.top_p,
        minP: g.min_p,
        repetitionPenalty: g.repetition_penalty,
      };
      const z = logits(c.logits);
      processLogits(z, samplingOf(options), c.input_ids);
      // Where top-p cuts through equal logits transformers keeps any of them (torch.sort), we the lowest ids.
      if (c.logits === "ties") close(z.slice().sort(), logits(c.output).sort());
      else {
        close(z, logits(c.output));
        const want = logits(c.probs);
        softmax(z).forEach((p, i) => {
          expect(Math.abs(p - want[i])).toBeLessThanOrEqual(1e-6 + 1e-6 * want[i]);
        });
      }
      tested++;
    }
    expect(tested).toBeGreaterThan(5);
  });

  it("top-p where the mass equals p exactly", () => {
    const { cases } = JSON.parse(readFileSync(sharedPath("cases/samplers/top_p_exact.json"), "utf8")) as {
      cases: { name: string; probs: number[]; top_p: number; kept_ids_lowest_id_on_ties: number[] }[];
    };
    for (const c of cases)
      expect(
        nucleus(c.probs, c.top_p).sort((a, b) => a - b),
        c.name,
      ).toEqual(c.kept_ids_lowest_id_on_ties);
  });
});

describe("top-p against the plain definition", () => {
  const plain = (probs: number[], p: number) => {
    const order = probs.map((_, i) => i).sort((a, b) => probs[b] - probs[a] || a - b);
    let mass = 0;
    let n = 0;
    while (n < order.length && (n === 0 || mass < p * (1 - 2 ** -22))) mass += probs[order[n++]];
    return order.slice(0, n).sort((a, b) => a - b);
  };
  it("any probabilities, ties and zeros among them", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.constantFrom(0, 1, 1, 1e-4), fc.double({ min: 0, max: 9, noNaN: true })), {
          minLength: 1,
          maxLength: 60,
        }),
        fc.double({ min: 1e-6, max: 0.999999, noNaN: true }),
        (weights, p) => {
          const sum = weights.reduce((a, b) => a + b, 0);
          const probs = weights.map((w, i) => (sum > 0 ? w / sum : i === 0 ? 1 : 0));
          expect(nucleus(probs, p)).toEqual(plain(probs, p));
        },
      ),
      { numRuns: 2000, seed: 5 },
    );
  });
  it("mass that is p on paper, from logits in float32", () => {
    const probs = [0.25, 0.0625, 0.03125, 0.5, 0.125, 0.03125];
    for (const [p, count] of [
      [0.25, 1],
      [0.5, 1],
      [0.75, 2],
      [0.875, 3],
      [0.9375, 4],
      [0.96875, 5],
    ]) {
      const z = Float32Array.from(probs, Math.log);
      filterTopP(z, p);
      expect(kept(z), `p = ${p}`).toBe(count);
    }
    for (let n = 1; n < 10; n++) {
      const ten = new Float32Array(10).fill(3);
      filterTopP(ten, n / 10);
      expect(
        Array.from(ten, (x) => x === 3),
        `p = ${n / 10}`,
      ).toEqual(Array.from(ten, (_, i) => i < n));
    }
  });
});

describe("processors", () => {
  it("top-k keeps ties, top-p keeps at least one, min-p keeps the best", () => {
    const ties = Float32Array.of(1, 3, 2, 2, 0);
    filterTopK(ties, 2);
    expect(Array.from(ties)).toEqual([-Infinity, 3, 2, 2, -Infinity]);
    const one = Float32Array.of(0, 0, 0);
    filterTopP(one, 1e-9);
    expect(Array.from(one)).toEqual([0, -Infinity, -Infinity]);
    const best = Float32Array.of(-5, 2, 2.5);
    filterMinP(best, 1);
    expect(Array.from(best)).toEqual([-Infinity, -Infinity, 2.5]);
  });
  it("the penalty takes each id once, whatever its sign", () => {
    const z = Float32Array.of(2, -2, 0, 1);
    penalizeRepetition(z, [0, 1, 1, 0, 2], 2);
    expect(Array.from(z)).toEqual([1, -4, 0, 1]);
  });
  it.each([
    ["temperature", 0],
    ["temperature", Number.NaN],
    ["topK", -1],
    ["topK", 1.5],
    ["topP", 0],
    ["topP", 1.1],
    ["minP", -0.1],
    ["repetitionPenalty", 0],
    ["seed", -1],
    ["seed", 0.5],
  ])("refuses %s = %s", (name, value) => {
    expect(() => samplingOf({ [name]: value })).toThrow(new RegExp(`${name}: expected`));
  });
});
