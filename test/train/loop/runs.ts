import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { InputError } from "../../../src/errors.js";
import type { TrainSettings } from "../../../src/train/loop/settings.js";
import { type TrainOptions, train } from "../../../src/train/loop/train.js";
import { type TinyFamily, tinyModel, uniform } from "../../fixtures/tiny-models.js";

/** A folder that goes after the tests. */
export const folder = mkdtempSync(join(tmpdir(), "lmhead-train-"));
afterAll(() => rmSync(folder, { recursive: true }));

let made = 0;

/** A run's folder that is not there yet; all have one name, which stands in their reports. */
export function freshOut(): string {
  const parent = join(folder, String(made++));
  mkdirSync(parent);
  return join(parent, "run");
}

export function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, String(made++));
  mkdirSync(path);
  writeFileSync(join(path, name), content);
  return join(path, name);
}

/** Documents of some 40 words each, with something to learn in them. */
export function documents(count: number, seed = 1): string[] {
  const next = uniform(seed);
  const words = "the cat sat on a mat and the dog ran to its red house by a green tree".split(" ");
  const word = () => words[Math.floor(((next() + 1) / 2) * words.length) % words.length];
  return Array.from({ length: count }, () => Array.from({ length: 40 }, word).join(" "));
}

export const corpus = write("corpus.txt", documents(40).join("\n\n"));

/** A run of less than a second. */
export const settings = {
  split: "blank-lines",
  vocabSize: 280,
  hiddenSize: 16,
  layers: 1,
  heads: 2,
  contextLength: 16,
  batchSize: 2,
  accumulate: 2,
  steps: 12,
  learningRate: 0.01,
  warmupSteps: 2,
  validateEvery: 3,
  validationBatches: 2,
  sampleEvery: 6,
  sampleTokens: 6,
  prompts: ["the cat", ""],
  checkpointEvery: 4,
} as const satisfies TrainSettings;

/** Every file of a folder with its bytes. */
export function tree(path: string): Map<string, string> {
  const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((file) => join(file.parentPath, file.name)).sort();
  return new Map(paths.map((file) => [relative(path, file), readFileSync(file, "latin1")]));
}

export function metricsOf(out: string): Record<string, unknown>[] {
  const lines = readFileSync(join(out, "metrics.jsonl"), "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** A new run, on one thread. */
export const begin = (out: string, more: Partial<TrainOptions> = {}) =>
  train({ corpus, out, settings, device: "wasm", threads: 1, ...more });
/** Goes on with a run, on one thread. */
export const goOn = (out: string, more: Partial<TrainOptions> = {}) =>
  train({ out, resume: true, device: "wasm", threads: 1, ...more });

/** Refused with one line, and without a lock left. */
export async function refused(promise: Promise<unknown>, message: RegExp, out?: string): Promise<void> {
  const error: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(InputError);
  expect((error as Error).message).toMatch(message);
  expect((error as Error).message).not.toMatch(/\n|undefined|NaN at|\[object/);
  if (out) expect(existsSync(join(out, "lock"))).toBe(false);
}

/** A whole run in a folder of its own, and what it leaves. Called where tests are declared, it runs before them. */
export function wholeRun(): { readonly out: string; readonly tree: Map<string, string> } {
  const whole = { out: freshOut(), tree: new Map<string, string>() };
  beforeAll(async () => {
    await begin(whole.out);
    whole.tree = tree(whole.out);
  });
  return whole;
}

/** Nothing written aside stays in any folder of a run. */
export function expectNothingAside(): void {
  const names = readdirSync(folder, { recursive: true }) as string[];
  expect(
    names.filter((name) => /\/run\/([^/]*\.(new|old)|ids\/.*\.tmp)$/.test(name) && !/notes|txt/.test(name)),
  ).toEqual([]);
}

const bits = new DataView(new ArrayBuffer(4));

/** Numbers as a checkpoint of another type stores them: bfloat16 cut, float16 cut (normal numbers only). */
function stored(dtype: "BF16" | "F16", numbers: readonly number[]): Uint8Array {
  const halves = Uint16Array.from(numbers, (x) => {
    bits.setFloat32(0, x);
    if (dtype === "BF16") return bits.getUint16(0);
    const all = bits.getUint32(0);
    const exponent = ((all >>> 23) & 0xff) - 127 + 15;
    return (all >>> 31) * 0x8000 + (exponent <= 0 ? 0 : (exponent << 10) | ((all >>> 13) & 0x3ff));
  });
  return new Uint8Array(halves.buffer);
}

/** A Hugging Face folder of random weights, with rows beyond its tokenizer's ids. @param files put over its own */
export async function tinyFolder(
  family: TinyFamily,
  dtype: "F32" | "BF16" | "F16" = "F32",
  files: Record<string, string> = {},
): Promise<string> {
  const path = freshOut();
  mkdirSync(path);
  const model = tinyModel(family, 3, {
    tensors: (tensors) => {
      for (const [name, { shape, data }] of Object.entries(tensors))
        if (dtype !== "F32") tensors[name] = { dtype, shape, data: stored(dtype, data as readonly number[]) };
    },
    files,
  });
  for (const name of await model.list()) {
    const source = (await model.open(name))!;
    writeFileSync(join(path, name), await source.read(0, source.size));
  }
  return path;
}
