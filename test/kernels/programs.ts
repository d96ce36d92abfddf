import type { Device, Matrix } from "../../src/kernels/device.js";
import type { StoredType } from "../../src/kernels/format.js";
import type { Activation, Op, Program } from "../../src/kernels/op.js";
import { floats, randomSource } from "./random.js";

/** A one-layer body that uses every op, of random weights. */
export interface Shape {
  readonly D: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly F: number;
  readonly type: StoredType;
  readonly layout: "half" | "interleaved";
  readonly pairs: number;
  readonly window?: number;
  readonly softcap?: number;
  readonly activation: Activation;
  readonly norm: "layer" | "rms";
}

export async function everyOp(
  device: Device,
  shape: Shape,
): Promise<{ program: Program; matrices: Matrix[] }> {
  const { D, heads, kvHeads, headDim, F } = shape;
  const matrices: Matrix[] = [];
  let seed = 1;
  const matrix = async (rows: number, cols: number, type: StoredType = shape.type) => {
    const m = await device.matrix(randomSource(type, rows, cols, seed++));
    matrices.push(m);
    return m;
  };
  const q = heads * headDim;
  const kv = kvHeads * headDim;
  const norm = (from: string, to: string, column: number, columns: number, group: number): Op => ({
    op: "norm",
    kind: shape.norm,
    in: from,
    out: to,
    column,
    columns,
    group,
    weight: floats(group, seed++),
    bias: floats(group, seed++),
    eps: 1e-5,
  });
  const ops: Op[] = [
    { op: "embed", table: await matrix(50, D), out: "x", scale: 1.5 },
    { op: "positions", table: await matrix(66, D, "f32"), offset: 2, out: "x" },
    { op: "copy", in: "x", out: "start" },
    norm("x", "n", 0, D, D),
    {
      op: "matmul",
      in: "n",
      out: "qkv",
      outColumn: 0,
      weight: await matrix(q, D),
      bias: floats(q, seed++),
      accumulate: false,
    },
    { op: "matmul", in: "n", out: "qkv", outColumn: q, weight: await matrix(kv, D), accumulate: false },
    {
      op: "matmul",
      in: "n",
      out: "qkv",
      outColumn: q + kv,
      weight: await matrix(kv, D),
      bias: floats(kv, seed++),
      accumulate: false,
    },
    norm("qkv", "qkv", 0, q + kv, headDim),
    {
      op: "rope",
      buffer: "qkv",
      column: 0,
      heads: heads + kvHeads,
      headDim,
      layout: shape.layout,
      frequencies: Float64Array.from({ length: shape.pairs }, (_, i) => 10 ** (-i / 2)),
      attentionFactor: 1.1,
    },
    {
      op: "attention",
      qkv: "qkv",
      out: "a",
      layer: 0,
      heads,
      kvHeads,
      headDim,
      scale: 0.7,
      softcap: shape.softcap,
      window: shape.window,
    },
    // Quantised weights take whole blocks: a float matrix brings the heads' width back to D.
    { op: "matmul", in: "a", out: "o", outColumn: 0, weight: await matrix(D, q, "f32"), accumulate: false },
    { op: "scale", buffer: "o", by: 0.3 },
    { op: "add", in: "o", out: "x" },
    norm("x", "n", 0, D, D),
    { op: "matmul", in: "n", out: "g", outColumn: 0, weight: await matrix(F, D), accumulate: false },
    { op: "matmul", in: "n", out: "u", outColumn: 0, weight: await matrix(F, D), accumulate: false },
    { op: "gate", kind: shape.activation, gate: "g", up: "u", out: "u" },
    { op: "act", kind: "tanh", buffer: "u" },
    {
      op: "matmul",
      in: "u",
      out: "x",
      outColumn: 0,
      weight: await matrix(D, F, "f32"),
      bias: floats(D, seed++),
      accumulate: true,
    },
  ];
  const program: Program = {
    buffers: { x: D, start: D, n: D, qkv: q + 2 * kv, a: q, o: D, g: F, u: F },
    ops,
    cache: [{ kvHeads, headDim }],
    maxPositions: 64,
  };
  return { program, matrices };
}
