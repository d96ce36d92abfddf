// Runs an experiment's trainings one after the other, and writes each result as it comes.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { AbortError, InputError } from "../../dist/errors.js";
import { DOCS, main, parse, root } from "./command.mjs";
import { readResults, VERSION } from "./results.mjs";
import { CORPUS, takeText } from "./text.mjs";
import { trainOnce } from "./training.mjs";

const SMOKE_MEGABYTES = 0.02;
/** Of the training text's bytes, how many are read to validate. */
const VALIDATION_SHARE = 1 / 8;

/** Sizes and optimizer of all runs; a variant says the rest. */
const SETTINGS = {
  usual: {
    family: "llama",
    hiddenSize: 128,
    layers: 2,
    heads: 4,
    innerSize: 384,
    contextLength: 128,
    batchSize: 8,
    optimizer: "adamw",
    learningRate: 2e-3,
    schedule: "cosine",
    finalFraction: 0.1,
    weightDecay: 0.1,
  },
  smoke: {
    family: "llama",
    hiddenSize: 16,
    layers: 1,
    heads: 2,
    innerSize: 48,
    contextLength: 16,
    batchSize: 32,
    optimizer: "adamw",
    learningRate: 2e-3,
    schedule: "cosine",
    finalFraction: 0.1,
    weightDecay: 0.1,
  },
};

/**
 * An experiment's command line: `--data DIR [--out DIR] [--megabytes N] [--seeds 0,1,2] [--threads N] [--smoke]`. Runs
 * that stand in DIR/NAME.json are not made again; one that was stopped begins anew.
 * @param {object} experiment
 * @param {string} experiment.name
 * @param {number} experiment.megabytes of training text, by default
 * @param {(settings: object, smoke: boolean) => import("./results.mjs").Variant[]} experiment.variantsOf a variant that
 *   takes the steps of another stands behind it
 */
export async function runExperiment(experiment) {
  const { name } = experiment;
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stop.abort());
  const folder = mkdtempSync(join(tmpdir(), "lmhead-experiment-"));
  try {
    await main(name, () => run(experiment, folder, stop.signal));
  } catch (error) {
    if (!(error instanceof AbortError)) throw error;
    console.error(`${name}: stopped; start it again to go on`);
    process.exitCode = 130;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function run({ name, megabytes: usual, variantsOf }, folder, signal) {
  const { data, out, megabytes, seeds, threads, smoke } = optionsOf(usual);
  const settings = smoke ? SETTINGS.smoke : SETTINGS.usual;
  const corpus = join(folder, "train.jsonl");
  const validationCorpus = join(folder, "validation.jsonl");
  const header = {
    version: VERSION,
    experiment: name,
    command: `node experiments/${name}.mjs --data DIR --megabytes ${megabytes}${threads ? ` --threads ${threads}` : ""}${smoke ? " --smoke" : ""}`,
    smoke,
    machine: machine(threads),
    text: {
      corpus: CORPUS,
      training: takeText(data, "train", megabytes * 1e6, corpus),
      validation: takeText(data, "validation", megabytes * 1e6 * VALIDATION_SHARE, validationCorpus),
    },
    settings,
    variants: variantsOf(settings, smoke),
  };
  const path = join(out, `${name}.json`);
  const runs = finishedRuns(path, header);
  const commit = commitNow();
  const planned = seeds.flatMap((seed) => header.variants.map((variant) => ({ variant, seed })));
  for (const [i, { variant, seed }] of planned.entries()) {
    const title = `${i + 1} of ${planned.length}: ${variant.name}, seed ${seed}`;
    const find = (name) => runs.find((run) => run.variant === name && run.seed === seed);
    let result = find(variant.name);
    if (result) console.log(`${title}: is there already`);
    else {
      const length = variant.stepsOf === undefined ? { epochs: 1 } : { steps: find(variant.stepsOf).steps };
      const measured = await trainOnce({
        settings: { ...settings, ...variant.settings, ...length, seed, validationCorpus },
        corpus,
        folder: join(folder, `run-${i}`),
        threads,
        signal,
      });
      const bytes = bytesRead(header, variant, measured.steps, find);
      result = { variant: variant.name, seed, ...measured, bytes, commit };
      runs.push(result);
      write(path, { ...header, runs });
      console.log(
        `${title}: ${result.bitsPerByte.toFixed(4)} bits per byte after ${result.tokens} tokens in ${result.seconds.toFixed(1)} s`,
      );
    }
  }
  console.log(`${path}: ${runs.length} runs; for the page: node experiments/render.mjs ${name}`);
}

/**
 * Bytes of text that a run's steps read. One pass reads all of it; what its last step takes of a second pass to be full
 * is not counted. Fewer or more steps than those of the pass with the same tokenizer read as much less or more.
 */
function bytesRead({ text, variants }, variant, steps, find) {
  if (variant.stepsOf === undefined) return text.training.bytes;
  const pass = variants.find(
    (other) => other.stepsOf === undefined && other.settings.vocabSize === variant.settings.vocabSize,
  );
  return Math.round((text.training.bytes * steps) / find(pass.name).steps);
}

function optionsOf(usual) {
  const { values } = parse({
    options: {
      data: { type: "string" },
      out: { type: "string" },
      megabytes: { type: "string" },
      seeds: { type: "string", default: "0,1,2" },
      threads: { type: "string" },
      smoke: { type: "boolean", default: false },
    },
  });
  const { data, out, smoke } = values;
  if (data === undefined)
    throw new InputError(
      "--data: expected the folder that models/tiny-gpt/recipe/prepare.mjs wrote (it reads ../shared/data/corpora)",
    );
  if (smoke && out === undefined)
    throw new InputError("--smoke: give --out too: its numbers do not belong into docs/experiments");
  const megabytes = Number(values.megabytes ?? (smoke ? SMOKE_MEGABYTES : usual));
  if (!(megabytes > 0 && Number.isFinite(megabytes)))
    throw new InputError(`--megabytes: expected a number above 0, got ${values.megabytes}`);
  const seeds = values.seeds.split(",").map(Number);
  if (
    !/^\d+(,\d+)*$/.test(values.seeds) ||
    !seeds.every(Number.isSafeInteger) ||
    new Set(seeds).size < seeds.length
  )
    throw new InputError(`--seeds: expected different whole numbers as 0,1,2, got ${values.seeds}`);
  const threads = values.threads === undefined ? undefined : Number(values.threads);
  if (threads !== undefined && !(Number.isSafeInteger(threads) && threads >= 1))
    throw new InputError(`--threads: expected a whole number from 1, got ${values.threads}`);
  return { data, out: out ?? DOCS, megabytes, seeds, threads, smoke };
}

/** @throws InputError when the file's runs are of other text, sizes or another machine */
function finishedRuns(path, header) {
  if (!existsSync(path)) return [];
  const { runs, ...before } = readResults(path);
  for (const [field, value] of Object.entries(header))
    if (!isDeepStrictEqual(before[field], value))
      throw new InputError(
        `${path}: holds runs of another ${field} (${JSON.stringify(before[field])}, now ${JSON.stringify(value)}); they would not be comparable: take another --out, or move the file away`,
      );
  return runs;
}

function write(path, results) {
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(`${path}.new`, `${JSON.stringify(results, null, 2)}\n`);
  renameSync(`${path}.new`, path);
}

function machine(threads = Math.min(8, availableParallelism())) {
  return `${cpus()[0].model.trim()}, ${threads} ${threads === 1 ? "thread" : "threads"}, Node ${process.versions.node}`;
}

function commitNow() {
  // Without taking git's lock from anyone.
  const git = (...args) =>
    execFileSync("git", ["--no-optional-locks", ...args], {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  try {
    const changed = git("status", "--porcelain", "--", "src", "experiments") !== "";
    return `${git("rev-parse", "--short", "HEAD")}${changed ? " with changes" : ""}`;
  } catch {
    return "unknown";
  }
}
