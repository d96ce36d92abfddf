// Makes an experiment's page and picture of its results: NAME.md and NAME.svg beside NAME.json, without training.
// node experiments/render.mjs [tied] [vocabulary-size] [--dir docs/experiments]
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../dist/errors.js";
import { drawChart } from "./lib/chart.mjs";
import { DOCS, main, parse } from "./lib/command.mjs";
import { grouped, readResults } from "./lib/results.mjs";
import { tiedPage } from "./lib/tied-page.mjs";
import { vocabularySizePage } from "./lib/vocabulary-size-page.mjs";

const PAGES = { tied: tiedPage, "vocabulary-size": vocabularySizePage };

await main("render", () => {
  const { values, positionals } = parse({
    options: { dir: { type: "string", default: DOCS } },
    allowPositionals: true,
  });
  for (const name of namesOf(values.dir, positionals)) render(values.dir, name);
});

/** Those that are asked for, or those that have results. */
function namesOf(dir, asked) {
  const unknown = asked.find((name) => !Object.hasOwn(PAGES, name));
  if (unknown !== undefined)
    throw new InputError(`unknown experiment "${unknown}"; expected ${Object.keys(PAGES).join(" or ")}`);
  const names =
    asked.length > 0 ? asked : Object.keys(PAGES).filter((name) => existsSync(pathOf(dir, name, "json")));
  if (names.length === 0)
    throw new InputError(`${dir}: holds no results; run an experiment first: node experiments/tied.mjs`);
  return names;
}

function render(dir, name) {
  const path = pathOf(dir, name, "json");
  if (!existsSync(path))
    throw new InputError(`${path}: is not there; run the experiment first: node experiments/${name}.mjs`);
  const results = readResults(path);
  if (results.experiment !== name)
    throw new InputError(`${path}: holds results of "${results.experiment}"; expected "${name}"`);
  const { markdown, picture } = PAGES[name](results, grouped(results));
  const svg = drawChart(picture);
  writeFileSync(pathOf(dir, name, "svg"), svg);
  writeFileSync(pathOf(dir, name, "md"), markdown);
  console.log(`${pathOf(dir, name, "md")}, ${pathOf(dir, name, "svg")}`);
}

function pathOf(dir, name, kind) {
  return join(dir, `${name}.${kind}`);
}
