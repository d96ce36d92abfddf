// What an experiment's JSON file holds.
import { readFileSync } from "node:fs";
import { InputError } from "../../dist/errors.js";

/**
 * @typedef {object} Results
 * @property {1} version
 * @property {string} experiment
 * @property {string} command without its seeds
 * @property {boolean} smoke whether sizes were those of a smoke run
 * @property {string} machine
 * @property {{ corpus: string, training: Part, validation: Part }} text
 * @property {object} settings of `train()`, the same for all runs
 * @property {Variant[]} variants
 * @property {Run[]} runs
 *
 * @typedef {{ documents: number, bytes: number, sha256: string }} Part
 *
 * @typedef {object} Variant
 * @property {string} name
 * @property {object} settings of `train()`, its own
 * @property {string} [stepsOf] the variant whose number of steps it takes; absent: it reads the text once
 *
 * @typedef {object} Run
 * @property {string} variant
 * @property {number} seed of the weights and of the order of the text
 * @property {number} steps
 * @property {number} tokens predicted in training
 * @property {number} bytes of text read in training
 * @property {number} seconds of training: its steps times the median step
 * @property {number} loss of the validation text, nats a token
 * @property {number} bitsPerByte of the validation text
 * @property {number} parameters
 * @property {number} vocabularyParameters those of them in embedding and head
 * @property {number} fileBytes of the weights in float32, as model.safetensors
 * @property {number} memory bytes that the device holds of the loaded model
 * @property {number} trainingMemory bytes that the device holds after the last step
 * @property {string} commit
 */

export const VERSION = 1;

/** Fewer say nothing of a spread. */
const FEWEST_SEEDS = 3;

const NUMBERS = [
  "seed",
  "steps",
  "tokens",
  "bytes",
  "seconds",
  "loss",
  "bitsPerByte",
  "parameters",
  "vocabularyParameters",
  "fileBytes",
  "memory",
  "trainingMemory",
];

/** @returns {Results} @throws InputError for a file that is not an experiment's results */
export function readResults(path) {
  let results;
  try {
    results = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new InputError(`${path}: expected an experiment's results (${error.message})`, { cause: error });
  }
  if (results?.version !== VERSION || !Array.isArray(results.runs) || !Array.isArray(results.variants))
    throw new InputError(`${path}: expected an experiment's results of version ${VERSION}`);
  const names = results.variants.map(({ name }) => name);
  const seen = new Set();
  for (const [i, run] of results.runs.entries()) {
    const what = `${path}: runs[${i}]`;
    if (!names.includes(run.variant))
      throw new InputError(`${what}: variant: expected one of ${names.join(", ")}, got ${run.variant}`);
    for (const field of NUMBERS)
      if (!(Number.isFinite(run[field]) && run[field] >= 0))
        throw new InputError(`${what}: ${field}: expected a number from 0, got ${run[field]}`);
    const key = `${run.variant}, seed ${run.seed}`;
    if (seen.has(key)) throw new InputError(`${what}: a second run of ${key}; expected one`);
    seen.add(key);
  }
  return results;
}

/** A number of each seed: their mean and ends. */
export function spread(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, min: Math.min(...values), max: Math.max(...values), values };
}

/** The runs of one variant, by seed. */
export class Group {
  constructor(variant, runs) {
    this.variant = variant;
    this.runs = runs;
  }

  /** @param {keyof Run | ((run: Run) => number)} what */
  spread(what) {
    return spread(this.runs.map((run) => (typeof what === "function" ? what(run) : run[what])));
  }

  /** What does not depend on the seed. @throws InputError when it does */
  same(field) {
    const { min, max } = this.spread(field);
    if (min !== max)
      throw new InputError(`${this.variant.name}: ${field} differs between seeds: ${min} to ${max}`);
    return min;
  }
}

/**
 * The runs by variant, in the variants' order.
 * @param {Results} results
 * @returns {{ seeds: number[], groups: Group[], group: (name: string) => Group }}
 * @throws InputError when a run is missing, or there are fewer than three seeds
 */
export function grouped({ experiment, variants, runs }) {
  const seeds = [...new Set(runs.map(({ seed }) => seed))].sort((a, b) => a - b);
  if (seeds.length < FEWEST_SEEDS)
    throw new InputError(
      `${experiment}: has runs of seed ${seeds.join(", ") || "none"}; expected at least ${FEWEST_SEEDS} seeds, or there is no spread to show`,
    );
  const groups = variants.map((variant) => {
    const own = seeds.map((seed) => {
      const run = runs.find((run) => run.variant === variant.name && run.seed === seed);
      if (run) return run;
      throw new InputError(
        `${experiment}: ${variant.name}, seed ${seed}, has not run yet; start the experiment again, which goes on`,
      );
    });
    return new Group(variant, own);
  });
  const group = (name) => {
    const found = groups.find(({ variant }) => variant.name === name);
    if (found) return found;
    throw new InputError(`${experiment}: has no variant "${name}"`);
  };
  return { seeds, groups, group };
}
