import type { Metrics, SampleMetric, ValidationMetric } from "../metrics.js";
import type { Chart } from "./charts.js";
import { figures, grouped, share } from "./format.js";
import { escaped } from "./html.js";
import { smoothed, smoothingFactor } from "./series.js";

/** The parts of a report's page, as HTML. */

/** Steps whose samples are open; those before are folded. */
const OPEN_STEPS = 3;

/** The run's numbers, each with what it is and a note. */
export function factsHtml({ run, steps, validations }: Metrics): string {
  const { model } = run;
  const last = steps.at(-1);
  const done = last?.step ?? 0;
  const best = bestValidation(validations);
  const facts: [name: string, value: string, note: string][] = [
    [
      "Model",
      count(model.parameters, "parameter"),
      `${model.family}, ${count(model.layers, "layer")}, hidden size ${grouped(model.hiddenSize)}, vocabulary of ${grouped(model.vocabSize)}`,
    ],
    [
      "Steps",
      `${grouped(done)} of ${grouped(run.steps)}`,
      done === run.steps ? "finished" : `${share(done, run.steps)} done`,
    ],
    ["Tokens", grouped(last?.tokens ?? 0), "predicted in training"],
    [
      "Last training loss",
      last ? figures(last.loss) : "none",
      last ? `nats per token${smoothedNote(steps.map(({ loss }) => loss))}` : "no step so far",
    ],
    [
      "Best validation loss",
      best ? figures(best.loss) : "none",
      best
        ? `nats per token, after step ${grouped(best.step)}; perplexity ${figures(best.perplexity)}`
        : "no validation so far",
    ],
    [
      "Bits per byte",
      best ? figures(best.bitsPerByte) : "none",
      best ? `of validation text, after step ${grouped(best.step)}` : "no validation so far",
    ],
  ];
  const rows = facts.map(
    ([name, value, note]) => `<div><dt>${name}</dt><dd>${escaped(value)}</dd><dd>${escaped(note)}</dd></div>`,
  );
  return `<dl class="facts">\n${rows.join("\n")}\n</dl>`;
}

/** The validation of the smallest loss; of equal ones the first. */
function bestValidation(validations: readonly ValidationMetric[]): ValidationMetric | undefined {
  return validations.reduce<ValidationMetric | undefined>(
    (best, next) => (best && best.loss <= next.loss ? best : next),
    undefined,
  );
}

function smoothedNote(losses: readonly number[]): string {
  const factor = smoothingFactor(losses.length);
  return factor === 0 ? "" : `; smoothed ${figures(smoothed(losses, factor).at(-1)!)}`;
}

/** A place for each chart, of the size that it will have. */
export function chartsHtml(charts: readonly Chart[]): string {
  const figuresHtml = charts.map(({ title, unit, note }, i) =>
    [
      "<figure>",
      `<figcaption><b>${title}</b>${unit && `<span class="quiet">${unit}</span>`}</figcaption>`,
      `<div class="legend"></div>`,
      `<div class="plot${i === 0 ? " tall" : ""}" role="img" aria-label="${title} by step"></div>`,
      ...(note ? [`<p class="quiet">${note}</p>`] : []),
      "</figure>",
    ].join("\n"),
  );
  return [
    `<section>`,
    `<div class="curves"><h2>Curves</h2><label><input type="checkbox" id="log-steps" autocomplete="off">logarithmic steps</label></div>`,
    ...figuresHtml,
    `<p class="quiet hint">Drag over a plot to enlarge a part, double-click to see all of it again.</p>`,
    `<noscript><p class="empty">The curves need JavaScript, which is off.</p></noscript>`,
    `</section>`,
  ].join("\n");
}

/** Samples by step, the newest first; "" when there are none. */
export function samplesHtml(samples: readonly SampleMetric[]): string {
  if (samples.length === 0) return "";
  const bySteps = new Map<number, SampleMetric[]>();
  for (const sample of samples) bySteps.set(sample.step, [...(bySteps.get(sample.step) ?? []), sample]);
  const html = [...bySteps]
    .reverse()
    .map(([step, group]) => `<h3>After step ${grouped(step)}</h3>\n${group.map(sampleHtml).join("\n")}`);
  const earlier = html.slice(OPEN_STEPS);
  return [
    "<section>",
    "<h2>Samples</h2>",
    `<p class="quiet">What the model wrote, newest first; the prompt is bold.</p>`,
    ...html.slice(0, OPEN_STEPS),
    ...(earlier.length > 0
      ? [
          `<details><summary>Samples after ${count(earlier.length, "earlier step")}</summary>`,
          ...earlier,
          `</details>`,
        ]
      : []),
    "</section>",
  ].join("\n");
}

function sampleHtml({ prompt, text }: SampleMetric): string {
  const given = prompt && `<b>${escaped(prompt)}</b>`;
  return `<p class="sample">${given}${text ? escaped(text) : "<i>(nothing)</i>"}</p>`;
}

/** The options of the run, as JSON. */
export function configHtml(config: Metrics["run"]["config"]): string {
  return `<details class="config"><summary>Configuration</summary>\n<pre>${escaped(JSON.stringify(config, undefined, 2))}</pre></details>`;
}

function count(n: number, name: string): string {
  return `${grouped(n)} ${name}${n === 1 ? "" : "s"}`;
}
