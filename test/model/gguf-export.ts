import { expect } from "vitest";
import { exportGguf, type GgufExportType } from "../../src/model/export-gguf.js";
import { type GgufExportInput, ggufExportInput } from "../../src/model/export-gguf-input.js";
import type { ByteSource, FileSet } from "../../src/model/formats/checkpoint.js";
import { bytesSource } from "../../src/model/formats/files.js";
import { LanguageModel } from "../../src/model/language-model.js";

export type Json = Record<string, unknown>;
export const END = "<|endoftext|>";
export const texts = [
  "",
  "The cat sat on the mat.",
  "  two spaces, a tab\tand\n\nlines",
  "I'll don't we've — 1234 ½ naïve 日本語 🙂",
  `before${END}after`,
  "\u0000\u007f\u00ad",
];

export function template(before: string[], after: string[]): Json {
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const single = [...before.map(special), { Sequence: { id: "A", type_id: 0 } }, ...after.map(special)];
  const tokens = [...before, ...after].map((id) => [id, { id, ids: [0], tokens: [id] }]);
  return { type: "TemplateProcessing", single, pair: single, special_tokens: Object.fromEntries(tokens) };
}

/** What a Hugging Face folder holds, as the export takes it. */
export async function inputOf(files: FileSet, bend: Partial<GgufExportInput> = {}): Promise<GgufExportInput> {
  return { ...(await ggufExportInput(files)), ...bend };
}

export async function exported(
  files: FileSet,
  type: GgufExportType,
  bend: Partial<GgufExportInput> = {},
): Promise<ByteSource> {
  return bytesSource("made.gguf", await exportGguf(await inputOf(files, bend), { type }));
}

export const load = (files: FileSet | ByteSource) => LanguageModel.load(files, { threads: 1 });

/** The largest difference as a share of the largest number. */
export function distance(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  const largest = a.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  expect(largest).toBeGreaterThan(0.1);
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0) / largest;
}

/** Hidden states of all positions, and the logits of the first V ids at the last one. */
export async function run(model: LanguageModel, V: number) {
  const ids = { ids: [3, 17, 99, 4, 260, 17, 17, 250] };
  const { hidden } = await model.hidden(ids);
  const logits = await (await model.next(ids)).logits();
  return { hidden, logits: logits.slice(0, V) };
}
