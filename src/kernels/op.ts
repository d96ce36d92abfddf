import type { Matrix } from "./device.js";

/**
 * The ops of which every body is made. A program is a flat list of them over named buffers; each buffer is
 * row-major float32 [N, width], where N is the number of rows (positions of all sequences, packed) of the call.
 *
 * Letters: N rows, T positions of one sequence, D hidden size, H heads, d head size.
 */
export type Op =
  | EmbedOp
  | PositionsOp
  | NormOp
  | MatmulOp
  | RopeOp
  | AttentionOp
  | ActOp
  | GateOp
  | AddOp
  | ScaleOp
  | CopyOp
  | DropoutOp;

/** Activation functions. `geluErf` is x·Φ(x); `geluTanh` its tanh approximation ("gelu_new", "gelu_pytorch_tanh"). */
export type Activation = "geluErf" | "geluTanh" | "relu" | "silu" | "tanh";

/** out[n, :] = scale · table[id[n], :]. table [V, D]; ids come with the call. */
export interface EmbedOp {
  readonly op: "embed";
  readonly table: Matrix;
  readonly out: string;
  readonly scale: number;
}

/** out[n, :] += table[position[n] + offset, :]. table [positions, D]; positions come with the call's segments. */
export interface PositionsOp {
  readonly op: "positions";
  readonly table: Matrix;
  readonly offset: number;
  readonly out: string;
}

/**
 * Normalises each group of `group` neighbouring columns of every row (group = width of the buffer for a plain
 * norm; head size for q/k norms). `layer`: (x - mean) / sqrt(var + eps); `rms`: x / sqrt(mean(x²) + eps).
 * Then times `weight` plus `bias`, whose length is `group` (shared by the groups) or the number of columns.
 * `column` and `columns` choose a part of the row (defaults 0 and the buffer's width). `out` may be `in`.
 */
export interface NormOp {
  readonly op: "norm";
  readonly kind: "layer" | "rms";
  readonly in: string;
  readonly out: string;
  readonly column: number;
  readonly columns: number;
  readonly group: number;
  readonly weight?: Float32Array;
  readonly bias?: Float32Array;
  readonly eps: number;
}

/**
 * out[n, outColumn + o] (+)= Σ_k in[n, k] · weight[o, k] + bias[o].
 * weight [O, K]; `in` has width K; `accumulate` adds to what `out` holds (the residual), otherwise it replaces.
 */
export interface MatmulOp {
  readonly op: "matmul";
  readonly in: string;
  readonly out: string;
  readonly outColumn: number;
  readonly weight: Matrix;
  readonly bias?: Float32Array;
  readonly accumulate: boolean;
}

/**
 * Rotary position embedding, in place, on `heads` heads of `headDim` columns that start at `column`:
 * the first 2·frequencies.length columns of each head turn by angle position·frequencies[i].
 * `half` pairs column i with i + n/2; `interleaved` pairs 2i with 2i+1. cos and sin are multiplied by `attentionFactor`.
 */
export interface RopeOp {
  readonly op: "rope";
  readonly buffer: string;
  readonly column: number;
  readonly heads: number;
  readonly headDim: number;
  readonly layout: "half" | "interleaved";
  readonly frequencies: Float64Array;
  readonly attentionFactor: number;
}

/**
 * Causal self-attention with a cache. From `qkv` [N, (H + 2·Hkv)·d] (queries, keys, values side by side) it writes
 * keys and values into the cache of `layer` at each row's position, then
 * out[n, h] = Σ_j softmax_j(softcap(scale · q[n,h]·k[j])) · v[j] over cached j with position[n] - window < j <= position[n].
 * out [N, H·d]. Query head h reads key head floor(h·Hkv/H).
 */
export interface AttentionOp {
  readonly op: "attention";
  readonly qkv: string;
  readonly out: string;
  readonly layer: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  readonly softcap?: number;
  readonly window?: number;
}

/** buffer = act(buffer), element by element. */
export interface ActOp {
  readonly op: "act";
  readonly kind: Activation;
  readonly buffer: string;
}

/** out[n, c] = act(gate[n, c]) · up[n, c]. The three buffers have one width; `out` may be one of the others. */
export interface GateOp {
  readonly op: "gate";
  readonly kind: Activation;
  readonly gate: string;
  readonly up: string;
  readonly out: string;
}

/** out += in. */
export interface AddOp {
  readonly op: "add";
  readonly in: string;
  readonly out: string;
}

/** buffer *= by. */
export interface ScaleOp {
  readonly op: "scale";
  readonly buffer: string;
  readonly by: number;
}

/** out = in. */
export interface CopyOp {
  readonly op: "copy";
  readonly in: string;
  readonly out: string;
}

/**
 * buffer = mask · buffer / (1 − rate), where each number's mask is 0 with probability `rate` and 1 otherwise. Only a
 * recorded run drops; `Device.run` passes over this op. The mask of row n and column c is a function of
 * `RecordCall.dropout`, `stream`, n and c alone (see `reference/dropout.ts`); each op of a program has a stream of its own.
 */
export interface DropoutOp {
  readonly op: "dropout";
  readonly buffer: string;
  /** In [0, 1). */
  readonly rate: number;
  readonly stream: number;
}

/** A body, compiled: what a device runs. */
export interface Program {
  /** Width of each buffer, by name. Every name that an op uses stands here. */
  readonly buffers: Readonly<Record<string, number>>;
  readonly ops: readonly Op[];
  /** What one cached position holds, for every attention layer (index = `AttentionOp.layer`). */
  readonly cache: readonly CacheLayer[];
  /** Largest number of positions (context length). */
  readonly maxPositions: number;
  /**
   * Numbers of ops, ascending from 1, at which blocks begin that a tape can run again (`RecordCall.recompute`). Into a block
   * one buffer alone may go on from what is before it: the residual stream. Absent: it can't be cut.
   */
  readonly checkpoints?: readonly number[];
}

/** Shape of one layer's cached keys and values of one position. */
export interface CacheLayer {
  readonly kvHeads: number;
  readonly headDim: number;
}
