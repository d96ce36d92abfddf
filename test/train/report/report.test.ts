import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Metrics, parseMetrics } from "../../../src/train/metrics.js";
import type { Chart } from "../../../src/train/report/charts.js";
import { trainingReport } from "../../../src/train/report/report.js";
import { jsonl, run, sample, step, validation } from "./metrics.js";
import { charts, scripts } from "./page.js";

const many = (n: number, of: (step: number) => object[]) =>
  Array.from({ length: n }, (_, i) => of(i + 1)).flat();
const read = (lines: readonly object[]) => parseMetrics(jsonl(lines), "m");
const whole = read([run(), ...many(10, (n) => [step(n), validation(n), sample(n, { text: ` ${n}!` })])]);

/** The points of a line where it has any: steps and values. */
function points({ x, lines }: Chart, label: string): [number, number][] {
  const { y } = lines.find((line) => line.label === label)!;
  return x.flatMap((step, i) => (y[i] === null ? [] : [[step, y[i]]]));
}

/** What a reader sees of a piece of HTML. */
function textOf(html: string): string {
  return html.replace(/<[^>]*>/g, "").replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)));
}

describe("the page", () => {
  const html = trainingReport(whole);

  it("loads nothing: no address, no import, and a policy that forbids all but its own scripts", () => {
    // Without the scripts: uPlot's names its home page in a comment.
    const rest = html.replace(/<script.*?<\/script>/gs, "");
    expect(rest).not.toMatch(/https?:|src=|href=|url\(|@import|@font-face/);
    for (const { attributes } of scripts(html)) expect(attributes).not.toContain("src");
    const policy = /Content-Security-Policy" content="([^"]*)"/.exec(html)![1];
    expect(policy).toMatch(/^default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-/);
    const hashes = scripts(html)
      .slice(1)
      .map(({ text }) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`);
    expect(hashes.length).toBe(2);
    expect(policy).toContain(`script-src ${hashes.join(" ")};`);
  });

  it("holds uPlot with its licence", () => {
    expect(scripts(html)[1].text).toContain("The MIT License");
    expect(scripts(html)[1].text).toContain("var uPlot=");
  });

  it("is the same for the same metrics", () => {
    expect(trainingReport(whole)).toBe(html);
  });

  it("says what the run is and where it stands", () => {
    const facts = [...html.matchAll(/<dt>(.*?)<\/dt><dd>(.*?)<\/dd><dd>(.*?)<\/dd>/g)].map((match) =>
      match.slice(1).map(textOf),
    );
    expect(facts).toEqual([
      ["Model", "15,190,000 parameters", "llama, 6 layers, hidden size 288, vocabulary of 32,000"],
      ["Steps", "10 of 10", "finished"],
      ["Tokens", "1,000", "predicted in training"],
      ["Last training loss", "1.00", "nats per token"],
      // 10 / 11, e^(10 / 11), (10 / 11) / 3
      ["Best validation loss", "0.9091", "nats per token, after step 10; perplexity 2.482"],
      ["Bits per byte", "0.303", "of validation text, after step 10"],
    ]);
  });

  it("takes the first of equal validations for the best, wherever it is", () => {
    const at = (n: number, loss: number) => validation(n, { loss, perplexity: n, bitsPerByte: n });
    const text = textOf(trainingReport(read([run(), at(1, 3), at(3, 2), at(4, 2), at(5, 2.5)])));
    expect(text).toContain("nats per token, after step 3; perplexity 3.00");
    expect(text).toContain("Bits per byte3.00of validation text, after step 3");
  });

  it("shows samples newest first and folds the old ones", () => {
    const order = [...html.matchAll(/<b>Once<\/b> (\d+)!/g)].map(([, n]) => Number(n));
    expect(order).toEqual([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    expect(html.indexOf("Samples after 7 earlier steps")).toBeGreaterThan(html.indexOf("<b>Once</b> 8!"));
    expect(html.indexOf("Samples after 7 earlier steps")).toBeLessThan(html.indexOf("<b>Once</b> 7!"));
  });

  it("shows the options as JSON", () => {
    const config = { a: "<b>", list: [1, { x: null }] };
    const pre = /<pre>(.*?)<\/pre>/s.exec(trainingReport(read([run({ config })])))![1];
    expect(JSON.parse(textOf(pre))).toEqual(config);
    expect(pre.split("\n").length).toBeGreaterThan(5);
  });
});

describe("runs that lack something", () => {
  it("without steps say so and have no script", () => {
    const html = trainingReport(read([run()]));
    expect(html).toContain("This run has no steps yet.");
    expect(html).toContain("script-src 'none'");
    expect(scripts(html)).toEqual([]);
    expect(textOf(html)).toContain("Steps0 of 100% done");
    expect(html).not.toContain("Samples");
  });

  it("of one step have each a dot, and no validation", () => {
    const html = trainingReport(read([run(), step(1)]));
    const titles = charts(html).map(({ title, x, lines }) => [
      title,
      x,
      lines.map(({ dots, y }) => [dots, y]),
    ]);
    expect(titles).toEqual([
      ["Loss", [1], [[true, [10]]]],
      ["Learning rate", [1], [[true, [3e-4]]]],
      ["Gradient norm", [1], [[true, [1]]]],
    ]);
    expect(html).toContain("no validation so far");
  });

  it("with validation alone show it", () => {
    const html = trainingReport(read([run(), validation(0), sample(0, { prompt: "", text: "" })]));
    expect(charts(html).map(({ title }) => title)).toEqual(["Loss", "Bits per byte"]);
    expect(html).toContain(`<p class="sample"><i>(nothing)</i></p>`);
  });

  it("whose gradient is 0 have a plain axis for it", () => {
    const norms = (gradientNorm: number) =>
      charts(trainingReport(read([run(), step(1, { gradientNorm: 0 }), step(2, { gradientNorm })])))[2];
    expect(norms(0).logarithmic).toBe(false);
    expect(norms(0.1).logarithmic).toBe(true);
  });
});

describe("the data", () => {
  const number = fc.double({ min: 0, max: 1e9, noNaN: true });
  const runs: fc.Arbitrary<Metrics> = fc
    .record({
      steps: fc.array(fc.tuple(number, number, number)),
      validations: fc.array(fc.tuple(number, number)),
    })
    .map(({ steps, validations }) => ({
      run: run({ steps: 1000 }),
      steps: steps.map(([loss, learningRate, gradientNorm], i) =>
        step(3 * i + 1, { loss, learningRate, gradientNorm }),
      ),
      validations: validations.map(([loss, bitsPerByte], i) => validation(2 * i, { loss, bitsPerByte })),
      samples: [],
    }));

  it("are the metrics, to the last bit", () => {
    fc.assert(
      fc.property(runs, (metrics) => {
        fc.pre(metrics.steps.length > 0 && metrics.validations.length > 0);
        const [loss, rate, norm, bits] = charts(trainingReport(metrics));
        const { steps, validations } = metrics;
        expect(points(loss, "training")).toEqual(steps.map((m) => [m.step, m.loss]));
        expect(points(loss, "validation")).toEqual(validations.map((m) => [m.step, m.loss]));
        expect(points(rate, "learning rate")).toEqual(steps.map((m) => [m.step, m.learningRate]));
        expect(points(norm, "gradient norm")).toEqual(steps.map((m) => [m.step, m.gradientNorm]));
        expect(points(bits, "bits per byte")).toEqual(validations.map((m) => [m.step, m.bitsPerByte]));
        // All charts lie below one another, from the run's first step to its last.
        for (const { x } of [rate, norm, bits]) expect([x[0], x.at(-1)]).toEqual([loss.x[0], loss.x.at(-1)]);
      }),
      { numRuns: 30 },
    );
  });

  it("of a long run are some thousand points with its extremes, and smoothed beside", () => {
    const metrics = read([
      run({ steps: 20_000 }),
      ...many(20_000, (n) => [step(n, { loss: n === 12_345 ? 99 : 3 + Math.sin(n), tokens: n })]),
    ]);
    const [loss] = charts(trainingReport(metrics));
    const training = points(loss, "training");
    expect(training.length).toBeLessThanOrEqual(4000);
    expect(training.length).toBeGreaterThan(2000);
    expect(training).toContainEqual([12_345, 99]);
    for (const [n, value] of training) expect(value).toBe(metrics.steps[n - 1].loss);
    expect(loss.note).toContain("factor 0.9975");
    // A sine's mean is 0, and 99 weighs little after 7000 steps.
    expect(points(loss, "smoothed").at(-1)![1]).toBeCloseTo(3, 1);
    expect(loss.lines.map(({ dots }) => dots)).toEqual([false, false]);
  });
});

describe("text from outside", () => {
  const nasty = `</script><script>alert(1)</script><!-- & "q" 'a' \u0000\u001b[31m\u009b\ud800 שלום\n\tend`;
  const plain = `</script><script>alert(1)</script><!-- & "q" 'a' \\u{0}\\u{1b}[31m\\u{9b}\\u{d800} שלום\n\tend`;

  it("is shown as it is, wherever it stands, and never read as HTML", () => {
    const clean = trainingReport(whole);
    const html = trainingReport(
      read([
        run({ name: nasty, config: { [nasty]: nasty }, model: { ...run().model, family: nasty } }),
        step(1),
        sample(1, { prompt: nasty, text: nasty }),
      ]),
    );
    expect(scripts(html).length).toBe(scripts(clean).length);
    expect(html).not.toContain("<script>alert");
    expect(html).not.toContain("<!-- &");
    expect(textOf(/<h1>(.*?)<\/h1>/s.exec(html)![1])).toBe(plain);
    expect(textOf(/<p class="sample">(.*?)<\/p>/s.exec(html)![1])).toBe(plain + plain);
    expect(html.replace(/<script.*?<\/script>/gs, "").replace(/[\n\t]/g, "")).not.toMatch(/\p{Cc}/u);
  });

  it("any text is one sample that reads as it was", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        const html = trainingReport(read([run(), sample(0, { prompt: "", text: `x${text}` })]));
        const shown = [...html.matchAll(/<p class="sample">(.*?)<\/p>/gs)];
        expect(shown.length).toBe(1);
        expect(textOf(shown[0][1])).toBe(`x${text}`);
      }),
    );
  });
});
