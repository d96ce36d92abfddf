import { totalmem } from "node:os";
import { expect, test, vi } from "vitest";
import { InputError } from "../../src/errors.js";
import type { MatrixSource } from "../../src/kernels/device.js";
import type { StoredType } from "../../src/kernels/format.js";
import { ReferenceDevice } from "../../src/kernels/reference/device.js";
import { checkFits, deviceBytes, fittingPositions, weightLimit } from "../../src/model/fits.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { tinyModel } from "../fixtures/tiny-models.js";
import { randomSource } from "../kernels/random.js";

const source = (rows: number, cols: number, type: StoredType = "f32"): MatrixSource => ({
  name: "w",
  rows,
  cols,
  type,
  read: () => Promise.reject(new Error("nothing is read before it is known to fit")),
});

test("a model too big for WebAssembly's memory: what it needs, what there is, what would fit", async () => {
  const wasm = { kind: "wasm", memory: 0 } as const;
  const limit = await weightLimit(wasm);
  const billion = Array.from({ length: 1000 }, () => source(1024, 1024));
  expect(() => checkFits(wasm, billion, limit)).toThrow(
    /take 3.91 GiB, but 3.75 GiB of 32-bit WebAssembly's 4 GiB are left for them; stored as f16 or bf16 .* 1.95 GiB/,
  );
  const many = [...billion, ...billion, ...billion, ...billion, ...billion];
  expect(() => checkFits(wasm, many, limit)).toThrow(/stored as Q4_0 it would take about 3.05 GiB/);
  expect(() => checkFits(wasm, [...many, ...many], limit)).toThrow(
    /take a model of at most \d+ million weights/,
  );
  expect(() => checkFits({ kind: "wasm", memory: 2 ** 31 }, billion.slice(0, 500), limit)).toThrow(
    /1.75 GiB of/,
  );
  checkFits(wasm, billion.slice(0, 900), limit);
});

test("the reference holds every type as float32, and the machine's memory bounds it", async () => {
  const reference = new ReferenceDevice();
  const sources = (["f32", "bf16", "Q8_0", "Q4_0", "Q6_K"] as const).map((type) =>
    randomSource(type, 20, 256, 1),
  );
  for (const one of sources) await reference.matrix(one);
  expect(deviceBytes(reference, sources)).toBe(reference.memory);
  await reference.close();

  expect(await weightLimit({ kind: "reference" })).toBeLessThanOrEqual(totalmem());
  expect(await weightLimit({ kind: "reference" })).toBeGreaterThan(2 ** 28);
  const empty = { kind: "reference", memory: 0 } as const;
  const blocks = Array.from({ length: 1024 }, () => source(1024, 1024, "Q4_0"));
  checkFits(empty, blocks, 4 * 2 ** 30);
  expect(() => checkFits(empty, blocks, 3 * 2 ** 30)).toThrow(
    "the model's weights take 4.00 GiB in float32, as the reference device holds them, but 3.00 GiB of this machine's memory are left for them; the wasm device holds them in 0.625 GiB",
  );
  expect(() => checkFits({ ...empty, memory: 1 }, blocks, 4 * 2 ** 30)).toThrow(InputError);
  const floats = blocks.map(({ rows, cols }) => source(rows, cols));
  expect(() => checkFits(empty, floats, 3 * 2 ** 30)).toThrow(/take a model of at most 805 million weights/);
});

test("a model that the machine can't hold on the reference device is refused before its weights are read", async () => {
  const device = new ReferenceDevice();
  vi.spyOn(process, "constrainedMemory").mockReturnValue(50_000);
  await expect(LanguageModel.load(tinyModel("llama"), { device })).rejects.toThrow(
    /in float32, as the reference device holds them/,
  );
  vi.restoreAllMocks();
  expect(device.memory).toBe(0);
  await (await LanguageModel.load(tinyModel("llama"), { device })).close();
  await device.close();
});

test("how long a sequence's cache can be", () => {
  // Llama-3.2-1B: 16 layers, 8 heads of 64 keys and values: 64 KiB a position in float32.
  const program = { cache: Array.from({ length: 16 }, () => ({ kvHeads: 8, headDim: 64 })) };
  const gib = 2 ** 30;
  expect(fittingPositions({ kind: "wasm", memory: 0 }, program, gib)).toBe(16384);
  expect(fittingPositions({ kind: "wasm", memory: gib / 2 }, program, gib)).toBe(8192);
  expect(fittingPositions({ kind: "wasm", memory: 2 * gib }, program, gib)).toBe(0);
  expect(fittingPositions({ kind: "wasm", memory: 1.25 * gib }, program)).toBe(43008);
  expect(fittingPositions({ kind: "reference", memory: 0 }, program)).toBe(Infinity);
});
