import { describe, expect, test } from "vitest";
import { initialModel } from "../../src/train/initial/initial-model.js";

const lib = (file: string) => import(new URL(`../../experiments/lib/${file}`, import.meta.url).href);
const { grouped } = await lib("results.mjs");
const { tiedPage } = await lib("tied-page.mjs");
const { vocabularySizePage } = await lib("vocabulary-size-page.mjs");
const { drawChart } = await lib("chart.mjs");

interface Run {
  variant: string;
  seed: number;
  bitsPerByte: number;
  parameters: number;
  tokens: number;
  [field: string]: number | string;
}

/** A bits-per-byte of each seed; V = 10, D = 4, so that the second matrix has 40 parameters. */
const TIED = { tied: [2, 2.1, 2.2], untied: [2.1, 2.2, 2.3], "tied, larger body": [1.9, 2.15, 2.3] };
const PARAMETERS: Record<string, number> = { tied: 100, untied: 140, "tied, larger body": 141 };

function results(experiment: string, variants: object[], runs: Run[]) {
  const part = { documents: 2, bytes: 5000, sha256: "0" };
  return {
    version: 1,
    experiment,
    command: `node experiments/${experiment}.mjs --data DIR --megabytes 4`,
    smoke: false,
    machine: "A processor, 2 threads, Node 20",
    text: { corpus: "wikitext-2", training: part, validation: part },
    settings: { family: "llama", hiddenSize: 4, layers: 1, heads: 2, contextLength: 16, learningRate: 0.002 },
    variants,
    runs,
  };
}

function run(variant: string, seed: number, bitsPerByte: number, parameters: number): Run {
  return {
    ...{ variant, seed, bitsPerByte, parameters, tokens: 1000, bytes: 5000, steps: 10, seconds: 2 + seed },
    ...{ loss: bitsPerByte * 5 * Math.LN2, vocabularyParameters: 40, fileBytes: parameters * 4 },
    ...{ memory: parameters * 4, trainingMemory: parameters * 16, commit: "abc1234" },
  };
}

function tiedResults(bits: Record<string, number[]> = TIED) {
  const settings = { vocabSize: 10, tied: true, layers: 2, innerSize: 7 };
  const variants = Object.keys(bits).map((name) => ({ name, settings }));
  const runs = Object.entries(bits).flatMap(([name, list]) =>
    list.map((value, seed) => run(name, seed, value, PARAMETERS[name])),
  );
  return results("tied", variants, runs);
}

const pageOf = (made: ReturnType<typeof tiedResults>) => tiedPage(made, grouped(made));

describe("the page on tying", () => {
  const { markdown, picture } = pageOf(tiedResults());

  test("has means, ends and ratios in its table and sentences", () => {
    expect(markdown).toContain("| tied | 100 | 40 % |");
    expect(markdown).toContain("| 2.1000 (2.0000 to 2.2000) |");
    expect(markdown).toContain("V·D = 40 parameters: untied, the same body comes to 1.40 times");
    expect(markdown).toContain("| untied | 2.1000 | 2.2000 | 2.3000 |");
    expect(markdown).toContain("--megabytes 4 --seeds 0,1,2");
    expect(markdown).toContain("at commit abc1234");
    expect(markdown).not.toMatch(/NaN|undefined \(|smoke/);
  });

  test("compares seed by seed, and says that one is better only where all seeds do", () => {
    expect(markdown).toContain(
      "With each of the 3 seeds tied predicts the validation text better than untied, by 0.1000 to 0.1000 bits per byte (mean 0.1000).",
    );
    // −0.2, −0.05 and 0.
    expect(markdown).toContain(
      "The seeds do not agree whether tied with the larger body or untied predicts the validation text better: tied with the larger body less untied is −0.2000 to 0.0000 bits per byte (mean −0.0833).",
    );
    const worse = pageOf(tiedResults({ ...TIED, tied: [2.2, 2.4, 2.6] })).markdown;
    expect(worse).toContain("tied predicts the validation text worse than untied, by 0.1000 to 0.3000");
  });

  test("draws its picture with labels and a title, in both pages' colours", () => {
    const svg: string = drawChart(picture);
    expect(svg).toMatch(/^<svg role="img"/);
    for (const label of [
      ">tied<",
      ">untied<",
      ">tied, larger body<",
      "bits per byte",
      "parameters, millions",
    ])
      expect(svg).toContain(label);
    expect(svg).toContain("prefers-color-scheme:dark");
    expect(svg).not.toMatch(/NaN|undefined|ecmeta|zr0-cls/);
    // Every colour that is used has its pair.
    const drawn = svg.replace(/<defs.*<\/defs>/s, "");
    const used = [...drawn.matchAll(/ (?:fill|stroke)="([^"]+)"/g)].map(([, colour]) => colour);
    for (const colour of used) if (colour !== "none") expect(svg).toContain(`[fill="${colour}"]{fill:`);
  });

  test("is refused when the data contradict a sentence, are not finished, or have no spread", () => {
    const wrong = tiedResults();
    for (const one of wrong.runs) if (one.variant === "untied") one.parameters = 150;
    expect(() => pageOf(wrong)).toThrow(/contradict.*V·D = 40 parameters/);
    const unequal = tiedResults();
    for (const one of unequal.runs) if (one.variant === "tied, larger body") one.parameters = 160;
    expect(() => pageOf(unequal)).toThrow(/contradict.*The same parameters/);
    const budgets = tiedResults();
    budgets.runs[0].tokens = 1001;
    expect(() => pageOf(budgets)).toThrow(/contradict.*same tokens and the same steps/);
    const missing = tiedResults();
    missing.runs.pop();
    expect(() => pageOf(missing)).toThrow("tied, larger body, seed 2, has not run yet");
    const two = tiedResults();
    two.runs = two.runs.filter(({ seed }) => seed < 2);
    expect(() => pageOf(two)).toThrow("runs of seed 0, 1; expected at least 3 seeds");
  });
});

describe("the page on vocabulary size", () => {
  /** V → bits per byte of each seed at equal bytes, then at equal tokens. */
  const bits = {
    8: [
      [2, 2.1, 2.2],
      [3, 3.1, 3.2],
    ],
    16: [
      [1.9, 2.0, 2.1],
      [2.5, 2.6, 2.7],
    ],
    32: [[1.95, 1.99, 2.3]],
  };

  function made() {
    const variants: { name: string; settings: object; stepsOf?: string }[] = [];
    const runs: Run[] = [];
    for (const [size, budgets] of Object.entries(bits))
      for (const [i, list] of budgets.entries()) {
        const V = Number(size);
        const name = i === 0 ? size : `${size}, equal tokens`;
        variants.push({ name, settings: { vocabSize: V, tied: true }, ...(i > 0 && { stepsOf: "32" }) });
        for (const [seed, value] of list.entries()) {
          const one = run(name, seed, value, 60 + 4 * V);
          // A token is V / 4 bytes.
          one.loss = (value * Math.LN2 * V) / 4;
          one.vocabularyParameters = 4 * V;
          one.steps = i === 0 ? 320 / V : 10;
          one.tokens = 100 * one.steps;
          one.bytes = i === 0 ? 5000 : 5000 * (V / 32);
          one.seconds = one.steps;
          runs.push(one);
        }
      }
    return results("vocabulary-size", variants, runs);
  }

  const pageOf = (given: ReturnType<typeof made>) => vocabularySizePage(given, grouped(given));
  const { markdown, picture } = pageOf(made());

  test("has shares, bytes a token, speeds and both budgets", () => {
    // V = 8: 32 of 92 parameters, 2 bytes a token, 4000 tokens in 40 steps and seconds.
    expect(markdown).toContain(
      "| 8 | 92 | 35 % | 2.00 | 4,000 | 40 | 40.0 (40.0 to 40.0) | 100 | 125 | 2.1000",
    );
    expect(markdown).toContain("| 8 | 1,000 | 10 | 25 % | 10.0 (10.0 to 10.0) | 3.1000 (3.0000 to 3.2000) |");
    expect(markdown).toContain("| 32 | 1,000 | 10 | 100 % |");
    expect(markdown).toContain("rises from 35 % at V = 8 to 68 % at V = 32");
    expect(markdown).toContain("V = 8 takes 4.00 times the steps of V = 32");
    expect(markdown).toContain("Most bytes a second go through V = 32 (500), fewest through V = 8 (125).");
    expect(markdown).not.toMatch(/NaN/);
  });

  test("names the best size, and whom not all seeds put behind it", () => {
    expect(markdown).toContain(
      "**Equal bytes.** V = 16 has the fewest bits per byte in the mean, 2.0000, but the seeds do not all put it before V = 32. Against the next, V = 32: the seeds do not agree",
    );
    expect(markdown).toContain(
      "**Equal tokens.** V = 32 has the fewest bits per byte in the mean, 2.0800, and with each seed fewer than any other size. Against the next, V = 16: with each of the 3 seeds V = 32 predicts the validation text better than V = 16, by 0.4000 to 0.6100",
    );
  });

  test("draws three panels over the sizes", () => {
    const svg: string = drawChart(picture);
    for (const label of [
      ">equal bytes<",
      ">equal tokens<",
      "thousands a second",
      ", %<",
      ">8<",
      ">16<",
      ">32<",
    ])
      expect(svg).toContain(label);
    expect(svg).not.toMatch(/NaN|undefined/);
  });

  test("is refused when shares do not rise", () => {
    const wrong = made();
    for (const one of wrong.runs) if (one.variant === "32") one.vocabularyParameters = 1;
    expect(() => pageOf(wrong)).toThrow(/contradict.*share of the parameters rises/);
  });
});

test("models with the same body and seed begin with the same body and embedding, as the page says", () => {
  const shape = {
    family: "llama",
    vocabSize: 20,
    hiddenSize: 8,
    layers: 1,
    heads: 2,
    maxPositions: 8,
  } as const;
  const { tensors: tied } = initialModel({ ...shape, tied: true }, 3);
  const { tensors: untied } = initialModel({ ...shape, tied: false }, 3);
  expect([...untied.keys()].filter((name) => !tied.has(name))).toEqual(["lm_head.weight"]);
  for (const [name, { data }] of tied) expect(untied.get(name)?.data).toEqual(data);
});
