import { createHash } from "node:crypto";
import type { Metrics } from "../metrics.js";
import { drawCharts } from "./browser.js";
import { chartsOf } from "./charts.js";
import { figures } from "./format.js";
import { escaped, scriptJson } from "./html.js";
import { chartsHtml, configHtml, factsHtml, samplesHtml } from "./sections.js";
import { STYLE } from "./style.js";
import { plotFiles } from "./uplot.js";

/**
 * The report of a training run: one HTML file that opens from a disk and asks for nothing else. It shows the run's
 * numbers; curves of loss (nats per token), learning rate, gradient norm and validation (bits per byte); samples; and
 * the run's options. Of a series of more than 4000 points it holds the smallest and largest of each stretch of steps.
 * The same metrics give the same bytes. For Node: it reads uPlot's files from the installed package.
 * @param metrics as `parseMetrics` gives them; a run without steps, validations or samples is fine
 * @returns a whole HTML document, to be written as UTF-8
 */
export function trainingReport(metrics: Metrics): string {
  const { run, samples } = metrics;
  const plot = plotFiles();
  const charts = chartsOf(metrics);
  const library = `/*\n${plot.license}\n*/\n${plot.script}`;
  const start = `(${drawCharts})(uPlot, JSON.parse(document.getElementById("charts").textContent), ${figures});`;
  const scripts = charts.length > 0 ? [library, start] : [];
  const name = escaped(run.name);
  return [
    "<!doctype html>",
    `<html lang="en">`,
    "<head>",
    `<meta charset="utf-8">`,
    `<meta http-equiv="Content-Security-Policy" content="${policy(scripts)}">`,
    `<meta name="viewport" content="width=device-width, initial-scale=1">`,
    `<meta name="color-scheme" content="light dark">`,
    `<title>${name}: training report</title>`,
    ...(charts.length > 0 ? [`<style>${plot.style}</style>`] : []),
    `<style>${STYLE}</style>`,
    "</head>",
    "<body>",
    `<h1>${name}</h1>`,
    `<p class="quiet">Training report</p>`,
    factsHtml(metrics),
    charts.length > 0 ? chartsHtml(charts) : `<p class="empty">This run has no steps yet.</p>`,
    samplesHtml(samples),
    configHtml(run.config),
    ...(charts.length > 0
      ? [`<script type="application/json" id="charts">${scriptJson(charts)}</script>`]
      : []),
    ...scripts.map((script) => `<script>${script}</script>`),
    "</body>",
    "</html>",
    "",
  ].join("\n");
}

/** The page may load nothing, and run these scripts only, whatever text stands in it (Content Security Policy 3). */
function policy(scripts: readonly string[]): string {
  const hashes = scripts.map(
    (script) => `'sha256-${createHash("sha256").update(script, "utf8").digest("base64")}'`,
  );
  const allowed = hashes.length > 0 ? hashes.join(" ") : "'none'";
  return `default-src 'none'; style-src 'unsafe-inline'; script-src ${allowed}; base-uri 'none'; form-action 'none'`;
}
