import { afterAll, describe, expect, it } from "vitest";
import { InputError } from "../../src/errors.js";
import type { Matrix } from "../../src/kernels/device.js";
import type { Op, Program } from "../../src/kernels/op.js";
import { checkProgram } from "../../src/kernels/program.js";
import { ReferenceDevice } from "../../src/kernels/reference/device.js";
import { checkRun } from "../../src/kernels/validate.js";
import { everyOp } from "./programs.js";

const device = new ReferenceDevice();
afterAll(() => device.close());
const { program } = await everyOp(device, {
  D: 6,
  heads: 2,
  kvHeads: 1,
  headDim: 3,
  F: 5,
  type: "f32",
  layout: "half",
  pairs: 1,
  activation: "relu",
  norm: "layer",
});
const matrix = (rows: number, cols: number): Matrix => ({
  name: "w",
  rows,
  cols,
  type: "f32",
  bytes: 0,
  gather: async () => new Float32Array(0),
  free: () => {},
});

/** The program with one op changed. */
const changed = (kind: Op["op"], over: object, rest: Partial<Program> = {}): Program => {
  const ops = [...program.ops];
  const at = ops.findIndex((op) => op.op === kind);
  ops[at] = { ...ops[at], ...over } as Op;
  return { ...program, ops, ...rest };
};

describe("checkProgram", () => {
  it("finds the tables that need ids, or the buffer that needs vectors", () => {
    expect(checkProgram(program)).toMatchObject({ inputs: [], tables: [{ cols: 6 }] });
    expect(checkProgram({ ...program, ops: program.ops.slice(1) })).toMatchObject({
      inputs: ["x"],
      tables: [],
    });
    expect(checkProgram(program)).toBe(checkProgram(program));
  });

  it("finds the buffers that ops touch, and whether whole", () => {
    const every = Object.keys(program.buffers).map((name) => [name, true] as const);
    expect(checkProgram(program).touched).toEqual(new Map(every));
    const half = { ...program, ops: program.ops.slice(0, 5) };
    expect([...checkProgram(half).touched].filter(([, whole]) => !whole)).toEqual([["qkv", false]]);
  });

  it.each<[string, Program, string | RegExp]>([
    [
      "embed width",
      changed("embed", { table: matrix(9, 5) }),
      'op 0 (embed): columns of table "w" is 5, expected 6 as "x" has',
    ],
    ["embed scale", changed("embed", { scale: Number.NaN }), "scale: expected a finite number, got NaN"],
    [
      "positions rows",
      changed("positions", { table: matrix(65, 6) }),
      /op 1 \(positions\): table "w" has 65 rows; 64 positions from row 2 on need 66/,
    ],
    ["unknown buffer", changed("copy", { out: "z" }), 'op 2 (copy): unknown buffer "z"; the program has x'],
    ["copy width", changed("copy", { out: "g" }), 'width of "g" is 5, expected 6 as "x" has'],
    ["norm group", changed("norm", { group: 4 }), "6 columns are not a whole number of groups of 4"],
    ["norm columns", changed("norm", { column: 1 }), 'columns 1 to 7 of "x" are asked; it has 6'],
    ["norm weight", changed("norm", { weight: new Float32Array(5) }), "length of weight is 5, expected 6"],
    [
      "NaN in a norm",
      changed("norm", { weight: new Float32Array(6).fill(Number.NaN) }),
      "weight holds NaN at 0",
    ],
    ["norm eps", changed("norm", { eps: -1 }), "eps"],
    [
      "matmul columns",
      changed("matmul", { weight: matrix(6, 7) }),
      'op 4 (matmul): columns of weight "w" is 7, expected 6',
    ],
    ["matmul place", changed("matmul", { outColumn: 9 }), 'columns 9 to 15 of "qkv" are asked; it has 12'],
    [
      "matmul bias",
      changed("matmul", { bias: new Float32Array(5) }),
      /length of bias of ".*" is 5, expected 6/,
    ],
    [
      "matmul in place",
      changed("matmul", { weight: matrix(6, 6), bias: undefined, out: "n" }),
      '"n" is both read and written',
    ],
    [
      "a gap",
      changed("matmul", { weight: matrix(5, 6), bias: undefined }),
      'reads column 5 of "qkv", which no op has written',
    ],
    [
      "rope pairs",
      changed("rope", { frequencies: new Float64Array(2) }),
      "2 frequencies turn 4 columns; a head has 3",
    ],
    ["rope range", changed("rope", { heads: 5 }), 'columns 0 to 15 of "qkv"'],
    [
      "attention heads",
      changed("attention", { heads: 2, kvHeads: 3 }),
      "2 heads cannot share 3 key heads evenly",
    ],
    ["attention width", changed("attention", { headDim: 4 }), 'width of "qkv" is 12, expected 16'],
    ["attention layer", changed("attention", { layer: 1 }), "layer 1: the program's cache has 1 layers"],
    [
      "attention window",
      changed("attention", { window: 0 }),
      "window: expected a whole number from 1, got 0",
    ],
    ["attention cap", changed("attention", { softcap: 0 }), "softcap"],
    [
      "cache shape",
      { ...program, cache: [{ kvHeads: 2, headDim: 3 }] },
      "cache layer 0 holds 2 heads of 3; the op has 1 of 3",
    ],
    ["gate width", changed("gate", { up: "x" }), 'width of "x" is 6, expected 5 as "g" has'],
    ["unknown op", changed("act", { op: "conv" }), 'unknown op "conv"'],
    ["checkpoint 0", { ...program, checkpoints: [0] }, "checkpoint 0: expected a whole number from 1, got 0"],
    [
      "checkpoints in disorder",
      { ...program, checkpoints: [3, 3] },
      "checkpoint 1: expected a whole number from 4, got 3",
    ],
    [
      "a checkpoint at the end",
      { ...program, checkpoints: [program.ops.length] },
      `checkpoint 0 is at op ${program.ops.length}; the program has ${program.ops.length} ops`,
    ],
    ["no positions", { ...program, maxPositions: 0 }, "program: maxPositions"],
    [
      "unfed buffer",
      changed("gate", { gate: "u", up: "u2", out: "u" }, { buffers: { ...program.buffers, u2: 5 } }),
      '"u2" is read before any op writes it, though the program begins with ids',
    ],
  ])("%s", (_, bad, message) => {
    expect(() => checkProgram(bad)).toThrow(InputError);
    expect(() => checkProgram(bad)).toThrow(message);
  });

  it("refuses two ops that write one cache layer", () => {
    const at = program.ops.findIndex((op) => op.op === "attention");
    const ops = [...program.ops.slice(0, at + 1), program.ops[at], ...program.ops.slice(at + 1)];
    expect(() => checkProgram({ ...program, ops })).toThrow("cache layer 0 is written by an earlier op");
  });
});

describe("checkRun", () => {
  it("counts rows and positions", async () => {
    const [a, b] = [device.cache(program), device.cache(program)];
    await device.run(program, { segments: [{ cache: b, rows: 3 }], ids: new Int32Array(3), outputs: [] });
    const segments = [
      { cache: a, rows: 2 },
      { cache: b, rows: 2 },
    ];
    expect(checkRun(program, { segments, ids: new Int32Array(4), outputs: [] })).toEqual({
      N: 4,
      positions: Int32Array.of(0, 1, 3, 4),
      starts: Int32Array.of(0, 2),
    });
  });

  it("refuses vectors that do not fit", () => {
    const fed: Program = { ...program, ops: program.ops.slice(1) };
    const segments = [{ cache: device.cache(fed), rows: 2 }];
    const refused = (vectors: { into: string; data: Float32Array } | undefined, message: string) =>
      expect(() => checkRun(fed, { segments, vectors, outputs: [] })).toThrow(message);
    refused(undefined, 'needs vectors in "x", but none came');
    refused({ into: "n", data: new Float32Array(12) }, 'vectors go into "n", but the program reads "x"');
    refused({ into: "x", data: new Float32Array(11) }, "2 × 6 = 12 numbers, but 11 came");
    refused({ into: "x", data: new Float32Array(12).fill(Number.NaN) }, "row 0 holds NaN at column 0");
    expect(() => checkRun(fed, { segments, ids: new Int32Array(2), outputs: [] })).toThrow(
      "no embedding, but ids came",
    );
  });
});
