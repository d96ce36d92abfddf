import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** The files of uPlot (Leon Sorokin, MIT) that a page needs, from the installed package. For Node. */
export interface PlotFiles {
  /** Defines the global `uPlot`. */
  readonly script: string;
  readonly style: string;
  /** To be kept with the copy, as it asks. */
  readonly license: string;
}

export function plotFiles(): PlotFiles {
  const require = createRequire(import.meta.url);
  const read = (file: string) => readFileSync(require.resolve(`uplot/${file}`), "utf8").trim();
  return {
    script: read("dist/uPlot.iife.min.js"),
    style: read("dist/uPlot.min.css"),
    license: read("LICENSE"),
  };
}
