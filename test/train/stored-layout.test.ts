import { describe, expect, test } from "vitest";
import { readHuggingFace } from "../../src/body/families/index.js";
import type { BodySpec, ModelSpec } from "../../src/body/spec.js";
import { uploadBody } from "../../src/body/upload.js";
import { InputError } from "../../src/errors.js";
import type { MatrixSource } from "../../src/kernels/device.js";
import { openDevice } from "../../src/kernels/open.js";
import { widen } from "../../src/kernels/reference/widen.js";
import type { Checkpoint } from "../../src/model/formats/checkpoint.js";
import { readJson } from "../../src/model/formats/files.js";
import { type MemoryTensor, memoryCheckpoint } from "../../src/model/formats/memory.js";
import { folderFiles } from "../../src/model/formats/node-files.js";
import { openSafetensorsFolder } from "../../src/model/formats/safetensors.js";
import { arraySource, float32Source, rowsReordered, transposed } from "../../src/model/formats/sources.js";
import { layoutBy, type ParameterTree, specParameters, storedLayout } from "../../src/train/stored-layout.js";
import { type TinyFamily, tinyConfig, tinyFamilies, tinyShapes, uniform } from "../fixtures/tiny-models.js";
import { shared, sharedPath } from "../shared.js";

/** Random numbers with few bits, so that w, 1 + w and (1 + w) - 1 are exact. */
function tensorsOf(family: TinyFamily, change: Record<string, readonly number[]> = {}) {
  const next = uniform(7);
  const tensors = new Map<string, MemoryTensor>();
  for (const [name, shape] of Object.entries({ ...tinyShapes(family), ...change })) {
    const count = shape.reduce((product, n) => product * n, 1);
    const data = Float32Array.from({ length: count }, () => Math.round(next() * 2 ** 18) / 2 ** 18);
    tensors.set(name, { shape, data });
  }
  return tensors;
}

/** A parameter's numbers as a program holds them. */
async function programNumbers(value: MatrixSource | Float32Array): Promise<Float32Array> {
  if (value instanceof Float32Array) return value;
  const wide = float32Source(value);
  return widen("f32", await wide.read(0, wide.rows), wide.rows * wide.cols);
}

/** What was read, put back: numbers by the name of their tensor. */
async function putBack(config: unknown, checkpoint: Checkpoint): Promise<Map<string, Float32Array>> {
  const layout = await storedLayout(config, checkpoint);
  const { spec } = await readHuggingFace("config", config, checkpoint);
  const parameters = specParameters(spec);
  expect([...layout.keys()]).toEqual(parameters.map(({ path }) => path));
  const stored = new Map<string, Float32Array>();
  for (const { path, value } of parameters) {
    const { name, toStored } = layout.get(path)!;
    stored.set(name, toStored(await programNumbers(value)));
  }
  return stored;
}

const bits = (data: Float32Array) => new Int32Array(Float32Array.from(data).buffer);

describe.each(tinyFamilies)("%s", (family) => {
  test("what was read is put back to the bit; masks are left out", async () => {
    const tensors = tensorsOf(family);
    const stored = await putBack(tinyConfig(family), memoryCheckpoint(family, tensors));
    const parameters = [...tensors.keys()].filter((name) => !/\.attn\.bias$/.test(name));
    expect([...stored.keys()].sort()).toEqual(parameters.sort());
    for (const [name, data] of stored) expect(bits(data), name).toEqual(bits(tensors.get(name)!.data));
  });

  test("is not stored as the program has it, where its family says so", async () => {
    const checkpoint = memoryCheckpoint(family, tensorsOf(family));
    const layout = await storedLayout(tinyConfig(family), checkpoint);
    const { spec } = await readHuggingFace("config", tinyConfig(family), checkpoint);
    const moved = new Set<string>();
    for (const { path, value } of specParameters(spec)) {
      const numbers = await programNumbers(value);
      const { name, toStored } = layout.get(path)!;
      const same = bits(toStored(numbers)).every((x, i) => x === bits(numbers)[i]);
      if (!same) moved.add(name.replace(/\d+/, "N"));
    }
    const expected: Record<TinyFamily, RegExp | undefined> = {
      gpt2: /^h\.N\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight$/,
      gpt_neox: /^gpt_neox\.layers\.N\.attention\.query_key_value\.(weight|bias)$/,
      gemma2: /norm\.weight$/,
      llama: undefined,
      qwen2: undefined,
      phi: undefined,
    };
    const wanted = expected[family];
    const names = Object.keys(tinyShapes(family)).map((name) => name.replace(/\d+/, "N"));
    expect(moved).toEqual(new Set(wanted ? names.filter((name) => wanted.test(name)) : []));
  });
});

test("tensors of a bf16 file are put back as float32", async () => {
  const tensors = tensorsOf("gpt2");
  const whole = memoryCheckpoint("gpt2", tensors);
  const half: Checkpoint = {
    ...whole,
    tensors: whole.tensors,
    close: () => whole.close(),
    vector: (name, length) => whole.vector(name, length),
    matrix: (name, rows, cols) => {
      const source = whole.matrix(name, rows, cols);
      const read = async (first: number, count: number) => {
        const bytes = await source.read(first, count);
        return Uint8Array.from({ length: bytes.length / 2 }, (_, i) => bytes[4 * (i >> 1) + 2 + (i & 1)]);
      };
      return { ...source, type: "bf16", read };
    },
  };
  const stored = await putBack(tinyConfig("gpt2"), half);
  for (const [name, { data, shape }] of tensors)
    if (shape.length === 2)
      expect(bits(stored.get(name)!), name).toEqual(bits(data).map((x) => x & 0xffff0000));
});

test("Gemma's norms, once put back, are read as they were trained", async () => {
  const layout = await storedLayout(tinyConfig("gemma2"), memoryCheckpoint("g", tensorsOf("gemma2")));
  const { toStored } = layout.get("finalNorm.weight")!;
  const next = uniform(3);
  const trained = Float32Array.from({ length: 24 }, (_, i) => 0.5 + 2 ** (i - 4) * (next() + 1));
  const again = toStored(trained).map((w) => 1 + w);
  expect(bits(again)).toEqual(bits(trained));
});

describe("the walk", () => {
  const vector = (n: number) => new Float32Array(n);
  const norm = () => ({ kind: "layer" as const, weight: vector(2), bias: vector(2), eps: 1 });
  const linear = () => ({ weight: arraySource("w", 1, 1, vector(1)), bias: vector(1) });
  const norms = () => ({ normIn: norm(), normOut: norm(), normSum: norm() });
  const layer = () => ({
    arrangement: "serial" as const,
    attention: {
      ...norms(),
      heads: 1,
      kvHeads: 1,
      headDim: 2,
      scale: 1,
      rope: { layout: "half" as const, frequencies: new Float64Array(1), attentionFactor: 1 },
      qNorm: norm(),
      kNorm: norm(),
      qkv: [linear(), linear()],
      output: linear(),
    },
    mlp: { ...norms(), activation: "silu" as const, gate: linear(), up: linear(), down: linear() },
  });
  const body: BodySpec = {
    hiddenSize: 2,
    maxPositions: 1,
    positions: { table: arraySource("p", 1, 2, vector(2)), offset: 0 },
    layers: [layer(), layer()],
    finalNorm: norm(),
  };
  const spec: ModelSpec = {
    family: "all",
    body,
    embedding: { name: "e", table: arraySource("e", 2, 2, vector(4)), scale: 1 },
    head: { weight: arraySource("h", 2, 2, vector(4)), bias: vector(2), scale: 1, names: [] },
  };

  /** Every matrix and vector that any field holds, with its path. */
  function everything(value: unknown, path: string, found: Map<unknown, string>): Map<unknown, string> {
    if (typeof value !== "object" || value === null || value instanceof Float64Array) return found;
    if (value instanceof Float32Array || "read" in value) return found.set(value, path);
    for (const [field, inner] of Object.entries(value)) everything(inner, `${path}.${field}`, found);
    return found;
  }

  test("finds every matrix and vector of a spec, by the path of its fields", () => {
    const wanted = everything(spec, "", new Map());
    const found = specParameters(spec);
    expect(found).toHaveLength(wanted.size);
    for (const { path, value } of found) expect(path).toBe(wanted.get(value)!.replace(/^\.(body\.)?/, ""));
    expect(found.map(({ path }) => path)).toContain("layers.0.attention.qkv.1.weight");
  });

  test("goes over an uploaded body in the same order", async () => {
    const device = await openDevice({ device: "reference" });
    const uploaded = await uploadBody(body, device);
    const paths = specParameters({ body: uploaded }).map(({ path }) => path);
    expect(paths).toEqual(specParameters({ body }).map(({ path }) => path));
    expect(paths).toHaveLength(specParameters(spec).length - 3);
    await device.close();
  });

  test("gives what stands in two places once", () => {
    const table = spec.embedding.table;
    const tied = specParameters({ body, embedding: { table }, head: { weight: table } });
    expect(tied.filter(({ value }) => value === table).map(({ path }) => path)).toEqual(["embedding.table"]);
  });
});

describe("what can't be put back", () => {
  const tensors = new Map<string, MemoryTensor>([
    ["m", { shape: [4, 4], data: new Float32Array(16) }],
    ["n", { shape: [4, 3], data: new Float32Array(12) }],
    ["v", { shape: [4], data: new Float32Array(4) }],
    ["one", { shape: [1], data: new Float32Array(1) }],
  ]);
  const checkpoint = memoryCheckpoint("made", tensors);
  const empty = { hiddenSize: 4, maxPositions: 1, layers: [] };
  const shown = (table: MatrixSource, weight?: MatrixSource, bias?: Float32Array) =>
    ({ body: empty, embedding: { table }, head: { weight, bias } }) as ParameterTree<MatrixSource>;
  const m = (c: Checkpoint) => c.matrix("m", 4, 4);

  test("rows and columns in another order, and a constant, can", async () => {
    const order = Int32Array.of(2, 0, 3, 1);
    const layout = await layoutBy(async (c) => {
      const v = await c.vector("v", 4);
      const bias = Float32Array.from(order, (i) => v[i] - 1.5);
      return shown(
        rowsReordered(m(c), order),
        rowsReordered(transposed(c.matrix("n", 4, 3)), Int32Array.of(1, 2, 0)),
        bias,
      );
    }, checkpoint);
    const sixteen = Float32Array.from({ length: 16 }, (_, i) => i);
    expect([...layout.get("embedding.table")!.toStored(sixteen)]).toEqual([
      4, 5, 6, 7, 12, 13, 14, 15, 0, 1, 2, 3, 8, 9, 10, 11,
    ]);
    // The view's rows are the columns 1, 2, 0.
    expect([...layout.get("head.weight")!.toStored(sixteen.slice(0, 12))]).toEqual([
      8, 0, 4, 9, 1, 5, 10, 2, 6, 11, 3, 7,
    ]);
    expect([...layout.get("head.bias")!.toStored(Float32Array.of(0, 1, 2, 3))]).toEqual([2.5, 4.5, 1.5, 3.5]);
    expect(() => layout.get("head.bias")!.toStored(new Float32Array(3))).toThrow(
      /head.bias: expected 4 numbers, those of v \[4\], got 3/,
    );
  });

  const cases: [string, (c: Checkpoint) => Promise<ParameterTree<MatrixSource>>, RegExp][] = [
    [
      "a part of a matrix",
      async (c) => shown(rowsReordered(m(c), Int32Array.of(0, 1, 2))),
      /embedding.table: is more than the rows or columns of tensor m/,
    ],
    [
      "a row twice",
      async (c) => shown(rowsReordered(m(c), Int32Array.of(0, 1, 2, 2))),
      /embedding.table: shows only a part of tensor m/,
    ],
    [
      "numbers in another order within rows",
      async (c) => {
        const read = async (first: number, count: number) => {
          const words = new Uint32Array((await m(c).read(first, count)).buffer);
          for (let i = 0; i < words.length; i += 4) words.subarray(i + 2, i + 4).reverse();
          return new Uint8Array(words.buffer);
        };
        return shown({ ...m(c), read });
      },
      /embedding.table: is more than the rows or columns of tensor m/,
    ],
    [
      "one matrix of two tensors",
      async (c) => {
        const [low, high] = [m(c), c.matrix("n", 4, 3)];
        const read = async (first: number, count: number) => {
          if (first + count === 4) await high.read(0, 1);
          return low.read(first, count);
        };
        return shown({ ...low, read });
      },
      /embedding.table: is more than the rows or columns of tensor m/,
    ],
    [
      "a matrix of no tensor",
      async () => shown(arraySource("own", 4, 4, new Float32Array(16))),
      /tensor undefined/,
    ],
    [
      "one tensor in two places",
      async (c) => shown(m(c), transposed(m(c))),
      /head.weight: shows tensor m, which embedding.table shows too/,
    ],
    [
      "a part of a vector",
      async (c) => shown(m(c), undefined, (await c.vector("v", 4)).slice(1)),
      /head.bias: shows only a part of tensor v/,
    ],
    [
      "a vector times 2",
      async (c) =>
        shown(
          m(c),
          undefined,
          (await c.vector("v", 4)).map((x) => 2 * x),
        ),
      /head.bias: (is more than|shows only)/,
    ],
    [
      "a single number times 2",
      async (c) =>
        shown(
          m(c),
          undefined,
          (await c.vector("one", 1)).map((x) => 2 * x),
        ),
      /head.bias: (is more than|shows only)/,
    ],
    [
      "a vector of two tensors",
      async (c) => {
        const v = await c.vector("v", 4);
        return shown(m(c), undefined, v.fill((await c.vector("one", 1))[0], 0, 1));
      },
      /head.bias: is more than the numbers of one tensor/,
    ],
    [
      "a vector of no tensor",
      async (c) => shown(m(c), undefined, new Float32Array(4)),
      /head.bias: is more than/,
    ],
  ];
  test.each(cases)("%s", async (_, read, message) => {
    const found = layoutBy(read, checkpoint);
    await expect(found).rejects.toThrow(InputError);
    await expect(found).rejects.toThrow(message);
  });

  test("what the family refuses", async () => {
    const tensors = tensorsOf("llama", { "model.norm.weight": [23] });
    await expect(storedLayout(tinyConfig("llama"), memoryCheckpoint("l", tensors))).rejects.toThrow(
      /model.norm.weight in l: expected 24 numbers/,
    );
  });
});

// Checkpoints that transformers wrote, one of them in shards.
describe.skipIf(!shared)("a folder of transformers'", () => {
  const cases = ["gpt2", "gpt2_padded_vocab", "llama", "qwen2", "gemma2", "gpt_neox", "phi"];
  test.each(cases)("%s", async (name) => {
    const files = folderFiles(sharedPath(`cases/hf/${name}`));
    const checkpoint = await openSafetensorsFolder(files);
    const stored = await putBack(await readJson(files, "config.json"), checkpoint);
    expect([...stored.keys()].sort()).toEqual([...checkpoint.tensors.keys()].sort());
    for (const [tensor, data] of stored) {
      const original = await checkpoint.vector(tensor, data.length);
      // Of w, 1 + w in float32 keeps what it can.
      const plusOne = name === "gemma2" && tensor.endsWith("norm.weight");
      const wanted = plusOne ? original.map((w) => Math.fround(1 + w) - 1) : original;
      expect(bits(data), tensor).toEqual(bits(wanted));
    }
    await checkpoint.close();
  });
});
