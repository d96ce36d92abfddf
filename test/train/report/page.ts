import type { Chart } from "../../../src/train/report/charts.js";

/** Parts of a report's page, for tests. */

/** The page's scripts, each with its attributes. */
export function scripts(html: string): { attributes: string; text: string }[] {
  return [...html.matchAll(/<script([^>]*)>(.*?)<\/script>/gs)].map(([, attributes, text]) => ({
    attributes,
    text,
  }));
}

/** The data that the page holds. */
export function charts(html: string): Chart[] {
  return JSON.parse(scripts(html)[0].text) as Chart[];
}
