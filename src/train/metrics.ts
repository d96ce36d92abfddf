import { InputError } from "../errors.js";
import { isObject, parseObject } from "../model/formats/files.js";

/**
 * What a training run writes down, as JSONL: one object a line, `run` first. There are no times in it, so that a run
 * that was stopped and resumed ends in the same bytes as one that was not.
 */

/** The run: the first line, and only there. */
export interface RunMetric {
  readonly type: "run";
  readonly name: string;
  readonly model: {
    /** The architecture, as "gpt2". */
    readonly family: string;
    readonly parameters: number;
    /** V */
    readonly vocabSize: number;
    /** D */
    readonly hiddenSize: number;
    readonly layers: number;
  };
  /** Steps planned. */
  readonly steps: number;
  /** The run's options, whatever they are. */
  readonly config: { readonly [name: string]: unknown };
}

/** One optimizer step. */
export interface StepMetric {
  readonly type: "step";
  /** Steps finished, this one too: the first is 1. */
  readonly step: number;
  /** Mean loss of the step's batch, in nats per predicted token, with label smoothing and z-loss where they are on. */
  readonly loss: number;
  readonly learningRate: number;
  /** Norm of the whole gradient before clipping. */
  readonly gradientNorm: number;
  /** Tokens predicted since the run's beginning. */
  readonly tokens: number;
}

/** The validation data, read after `step` steps; 0 is before the first. */
export interface ValidationMetric {
  readonly type: "validation";
  readonly step: number;
  /** Mean cross-entropy, in nats per predicted token. */
  readonly loss: number;
  /** e^loss */
  readonly perplexity: number;
  /** Bits per byte of the text's UTF-8. */
  readonly bitsPerByte: number;
}

/** Text that the model wrote after `step` steps; 0 is before the first. */
export interface SampleMetric {
  readonly type: "sample";
  readonly step: number;
  /** What the model was given; "" for nothing. */
  readonly prompt: string;
  /** What it wrote, without the prompt. */
  readonly text: string;
}

/** One line. */
export type Metric = RunMetric | StepMetric | ValidationMetric | SampleMetric;

/** A run's lines by kind, each in the order of steps. */
export interface Metrics {
  readonly run: RunMetric;
  readonly steps: readonly StepMetric[];
  readonly validations: readonly ValidationMetric[];
  readonly samples: readonly SampleMetric[];
}

/** What a field must be, in words and as a test. */
type Rule = readonly [expected: string, holds: (value: unknown) => boolean];

const whole = (from: number): Rule => [
  `a whole number from ${from}`,
  (value) => Number.isSafeInteger(value) && (value as number) >= from,
];
const finite: Rule = ["a finite number", Number.isFinite];
const nonNegative: Rule = [
  "a finite number from 0",
  (value) => Number.isFinite(value) && (value as number) >= 0,
];
const text: Rule = ["a string", (value) => typeof value === "string"];
const name: Rule = ["a string that is not empty", (value) => typeof value === "string" && value !== ""];
const object: Rule = ["an object", isObject];

type Rules<T> = { readonly [Field in Exclude<keyof T, "type">]: Rule };

const RULES: {
  readonly run: Rules<RunMetric>;
  readonly step: Rules<StepMetric>;
  readonly validation: Rules<ValidationMetric>;
  readonly sample: Rules<SampleMetric>;
} = {
  run: { name, model: object, steps: whole(1), config: object },
  step: {
    step: whole(1),
    loss: finite,
    learningRate: nonNegative,
    gradientNorm: nonNegative,
    tokens: whole(0),
  },
  validation: { step: whole(0), loss: finite, perplexity: nonNegative, bitsPerByte: nonNegative },
  sample: { step: whole(0), prompt: text, text },
};

const MODEL_RULES: Rules<RunMetric["model"]> = {
  family: name,
  parameters: whole(1),
  vocabSize: whole(1),
  hiddenSize: whole(1),
  layers: whole(0),
};

/**
 * Reads the metrics of a run.
 * @param text the whole file, each line with its line end
 * @param name the file, for messages
 * @throws InputError naming line and field: for text that is not JSON, a last line without its end (what a killed
 *   process leaves), an unknown, missing or wrong field, a first line that is no `run` or a second that is, a step above
 *   the run's or that goes back, two `step` or two `validation` lines of one step, and tokens that go down
 */
export function parseMetrics(text: string, name: string): Metrics {
  if (text === "") throw new InputError(`${name}: is empty; expected a line of type "run" first`);
  const lines = text.split("\n");
  if (lines.pop() !== "")
    throw new InputError(
      `${name}, line ${lines.length + 1}: has no line end, so it may be cut short; remove the line, or resume the run, which does`,
    );
  const run = parseMetric(lines[0], `${name}, line 1`);
  if (run.type !== "run")
    throw new InputError(`${name}, line 1: type: expected "run" first, got "${run.type}"`);
  const metrics = {
    run,
    steps: [] as StepMetric[],
    validations: [] as ValidationMetric[],
    samples: [] as SampleMetric[],
  };
  let last = 0;
  for (let i = 1; i < lines.length; i++) {
    const what = `${name}, line ${i + 1}`;
    const metric = parseMetric(lines[i], what);
    if (metric.type === "run")
      throw new InputError(`${what}: type: a second "run"; expected one run a file, on line 1`);
    const { step } = metric;
    if (step > run.steps)
      throw new InputError(`${what}: step: expected at most ${run.steps}, the run's steps, got ${step}`);
    if (step < last) throw new InputError(`${what}: step: goes back from ${last} to ${step}`);
    last = step;
    if (metric.type === "step") {
      const before = metrics.steps.at(-1);
      refuseTwice(what, metric, before);
      if (before && metric.tokens < before.tokens)
        throw new InputError(`${what}: tokens: goes down from ${before.tokens} to ${metric.tokens}`);
      metrics.steps.push(metric);
    } else if (metric.type === "validation") {
      refuseTwice(what, metric, metrics.validations.at(-1));
      metrics.validations.push(metric);
    } else metrics.samples.push(metric);
  }
  return metrics;
}

function refuseTwice(what: string, metric: StepMetric | ValidationMetric, before?: { step: number }): void {
  if (before?.step === metric.step)
    throw new InputError(`${what}: step: a second line of type "${metric.type}" for step ${metric.step}`);
}

function parseMetric(line: string, what: string): Metric {
  const given = parseObject(what, line);
  const { type } = given;
  if (typeof type !== "string" || !Object.hasOwn(RULES, type))
    throw new InputError(
      `${what}: type: expected ${Object.keys(RULES).join(", ")}, got ${JSON.stringify(type) ?? "nothing"}`,
    );
  checkRules(what, "", given, { type: text, ...RULES[type as Metric["type"]] });
  if (type === "run")
    checkRules(what, "model.", given.model as Readonly<Record<string, unknown>>, MODEL_RULES);
  return given as unknown as Metric;
}

function checkRules(
  what: string,
  prefix: string,
  given: Readonly<Record<string, unknown>>,
  rules: Readonly<Record<string, Rule>>,
): void {
  for (const field of Object.keys(given))
    if (!Object.hasOwn(rules, field))
      throw new InputError(
        `${what}: unknown field "${prefix}${field}"; the fields are ${Object.keys(rules).join(", ")}`,
      );
  for (const [field, [expected, holds]] of Object.entries(rules)) {
    const value = Object.hasOwn(given, field) ? given[field] : undefined;
    if (holds(value)) continue;
    const got = JSON.stringify(value) ?? "nothing (the field is missing)";
    throw new InputError(
      `${what}: ${prefix}${field}: expected ${expected}, got ${got.length > 60 ? `${got.slice(0, 57)}…` : got}`,
    );
  }
}
