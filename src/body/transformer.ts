import { InputError } from "../errors.js";
import type { Matrix } from "../kernels/device.js";
import type { CacheLayer, EmbedOp, Op, Program } from "../kernels/op.js";
import type { BodySpec, LayerSpec, LinearSpec, NormSpec } from "./spec.js";

/** Names of the buffers through which a body is fed and read. */
export const bodyBuffers = {
  /** [N, D]: the vectors that enter the first block, and the residual stream from there on. */
  input: "x",
  /** [N, D]: what the head receives. */
  hidden: "hidden",
  /** [N, D]: a captured layer. */
  layer: (index: number) => `layer ${index}`,
} as const;

/** Options of `bodyProgram`. */
export interface ProgramOptions {
  /** Present: the program begins with ids. Absent: the caller gives vectors in `bodyBuffers.input`. */
  readonly embed?: Pick<EmbedOp, "table" | "scale">;
  /** Layers to capture: 0 enters the first block, l leaves block l, the last has passed the final norm. Default none. */
  readonly layers?: readonly number[];
  /**
   * Rate in [0, 1) at which a recorded run drops numbers, where GPT-2 has its `embd_pdrop` and `resid_pdrop`: of the vectors
   * that enter the first block, and of each sublayer's output before the residual sum. Attention's probabilities
   * (`attn_pdrop`) are never dropped. Default 0.
   */
  readonly dropout?: number;
}

/**
 * The one parametric transformer: a flat list of ops for a body whose matrices stand on a device.
 *
 * The products that leave a sublayer add themselves to the residual stream where nothing stands between them and it
 * (no norm on a sublayer's output, no dropout), and products of one input stand side by side: both save a barrier between ops.
 * @throws InputError for a dropout outside [0, 1)
 */
export function bodyProgram(body: BodySpec<Matrix>, options: ProgramOptions = {}): Program {
  const { dropout = 0 } = options;
  if (!(dropout >= 0 && dropout < 1))
    throw new InputError(`dropout: expected a number from 0 and below 1, got ${dropout}`);
  const code = new Code(dropout);
  const { input: x, hidden } = bodyBuffers;
  const D = body.hiddenSize;
  const wanted = new Set(options.layers);
  const last = body.layers.length;
  const capture = (index: number, from: string) => {
    if (wanted.has(index)) code.push({ op: "copy", in: from, out: code.buffer(bodyBuffers.layer(index), D) });
  };

  code.buffer(x, D);
  if (options.embed) code.push({ op: "embed", ...options.embed, out: x });
  if (body.positions) code.push({ op: "positions", ...body.positions, out: x });
  code.drop(x);
  const cache: CacheLayer[] = [];
  const checkpoints: number[] = [];
  for (const [index, layer] of body.layers.entries()) {
    if (index > 0) checkpoints.push(code.ops.length);
    capture(index, x);
    block(code, layer, D, index);
    cache.push({ kvHeads: layer.attention.kvHeads, headDim: layer.attention.headDim });
  }
  code.buffer(hidden, D);
  if (body.finalNorm) code.norm(body.finalNorm, x, hidden, D);
  else code.push({ op: "copy", in: x, out: hidden });
  capture(last, hidden);
  return { buffers: code.buffers, ops: code.ops, cache, maxPositions: body.maxPositions, checkpoints };
}

/** One layer: x [N, D] to x [N, D]. */
function block(
  code: Code,
  { arrangement, attention, mlp }: LayerSpec<Matrix>,
  D: number,
  index: number,
): void {
  const x = bodyBuffers.input;
  const normed = code.before(attention.normIn, x, "normed", D);
  // A parallel MLP reads x as it was before attention's sum; so its norm comes first.
  const parallel = arrangement === "parallel";
  const mlpInput = parallel ? (mlp.normIn ? code.before(mlp.normIn, x, "normed 2", D) : normed) : undefined;
  if (parallel && mlpInput === x) throw new Error("a parallel layer without a norm before its sublayers");

  attend(code, attention, normed, index);
  code.leave(attention, attention.output, code.buffer("attended", attention.heads * attention.headDim), D);

  const from = mlpInput ?? code.before(mlp.normIn, x, "normed", D);
  const inner = mlp.up.weight.rows;
  const up = code.buffer("up", inner);
  if (mlp.gate) {
    const gate = code.buffer("gate", inner);
    code.matmul(mlp.gate, from, gate);
    code.matmul(mlp.up, from, up);
    code.push({ op: "gate", kind: mlp.activation, gate, up, out: up });
  } else {
    code.matmul(mlp.up, from, up);
    code.push({ op: "act", kind: mlp.activation, buffer: up });
  }
  code.leave(mlp, mlp.down, up, D);
}

/** Queries, keys and values of `from`, turned, then attention into the buffer "attended". */
function attend(code: Code, spec: LayerSpec<Matrix>["attention"], from: string, layer: number): void {
  const { heads, kvHeads, headDim } = spec;
  const qkv = code.buffer("qkv", (heads + 2 * kvHeads) * headDim);
  let column = 0;
  for (const linear of spec.qkv) {
    code.matmul(linear, from, qkv, { outColumn: column });
    column += linear.weight.rows;
  }
  const keys = heads * headDim;
  if (spec.qNorm) code.groupNorm(spec.qNorm, qkv, 0, keys, headDim);
  if (spec.kNorm) code.groupNorm(spec.kNorm, qkv, keys, kvHeads * headDim, headDim);
  // Keys stand right after queries and turn by the same angles: one op for both.
  if (spec.rope)
    code.push({ op: "rope", buffer: qkv, column: 0, heads: heads + kvHeads, headDim, ...spec.rope });
  code.push({
    op: "attention",
    qkv,
    out: code.buffer("attended", keys),
    layer,
    heads,
    kvHeads,
    headDim,
    scale: spec.scale,
    softcap: spec.softcap,
    window: spec.window,
  });
}

/** Ops and buffers as they are collected. */
class Code {
  readonly ops: Op[] = [];
  readonly buffers: Record<string, number> = {};
  private streams = 0;

  /** @param dropout rate; 0: none */
  constructor(private readonly dropout: number) {}

  /** A buffer of this width: the named one, or one of its own where a layer's width differs from the others'. */
  buffer(name: string, width: number): string {
    const own = (this.buffers[name] ?? width) === width ? name : `${name} ${width}`;
    this.buffers[own] = width;
    return own;
  }

  push(op: Op): void {
    this.ops.push(op);
  }

  /** Drops numbers of a buffer; each place has a stream of its own. */
  drop(buffer: string): void {
    if (this.dropout > 0) this.push({ op: "dropout", buffer, rate: this.dropout, stream: this.streams++ });
  }

  norm(spec: NormSpec, from: string, out: string, columns: number): void {
    this.push({ op: "norm", ...spec, in: from, out, column: 0, columns, group: columns });
  }

  /** A norm over each head of a part of the row, or over the whole part when the weight is as long as it. */
  groupNorm(spec: NormSpec, buffer: string, column: number, columns: number, headDim: number): void {
    const group = spec.weight?.length === columns ? columns : headDim;
    this.push({ op: "norm", ...spec, in: buffer, out: buffer, column, columns, group });
  }

  /** The sublayer's input: `x` through its norm, or `x` itself. */
  before(norm: NormSpec | undefined, x: string, name: string, D: number): string {
    if (!norm) return x;
    const out = this.buffer(name, D);
    this.norm(norm, x, out, D);
    return out;
  }

  matmul(
    linear: LinearSpec<Matrix>,
    from: string,
    out: string,
    { outColumn = 0, accumulate = false } = {},
  ): void {
    this.push({ op: "matmul", in: from, out, outColumn, ...linear, accumulate });
  }

  /** A sublayer's last product, its optional norm and dropout, the sum with the residual stream, and the optional norm of that. */
  leave(
    norms: { normOut?: NormSpec; normSum?: NormSpec },
    linear: LinearSpec<Matrix>,
    from: string,
    D: number,
  ): void {
    const x = bodyBuffers.input;
    if (norms.normOut || this.dropout > 0) {
      const branch = this.buffer("branch", D);
      this.matmul(linear, from, branch);
      if (norms.normOut) this.norm(norms.normOut, branch, branch, D);
      this.drop(branch);
      this.push({ op: "add", in: branch, out: x });
    } else this.matmul(linear, from, x, { accumulate: true });
    if (norms.normSum) this.norm(norms.normSum, x, x, D);
  }
}
