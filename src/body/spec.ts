import type { MatrixSource } from "../kernels/device.js";
import type { Activation } from "../kernels/op.js";

/** A vector of a checkpoint (norm weight, bias), widened to float32. */
export type Vector = Float32Array;

/**
 * A linear layer: weight [out, in] and an optional bias [out]. `W` is where the weight stands: a checkpoint's
 * `MatrixSource` in what a family file makes, a device's `Matrix` in what `compileBody` makes of it.
 */
export interface LinearSpec<W = MatrixSource> {
  readonly weight: W;
  readonly bias?: Vector;
}

/** A norm: `layer` or `rms`. A family that multiplies by 1 + w gives that sum as its weight. */
export interface NormSpec {
  readonly kind: "layer" | "rms";
  readonly weight?: Vector;
  readonly bias?: Vector;
  readonly eps: number;
}

/** Rotary positions. `frequencies`: one angle a position for each pair of columns; scaling is already in them. */
export interface RopeSpec {
  readonly layout: "half" | "interleaved";
  readonly frequencies: Float64Array;
  readonly attentionFactor: number;
}

export interface AttentionSpec<W = MatrixSource> {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  readonly softcap?: number;
  /** Key j is visible to query i when i - j < window. */
  readonly window?: number;
  readonly rope?: RopeSpec;
  readonly qNorm?: NormSpec;
  readonly kNorm?: NormSpec;
  /** Linear layers whose outputs, one after the other, are queries, keys, values: [q;k;v] or three. */
  readonly qkv: readonly LinearSpec<W>[];
  readonly output: LinearSpec<W>;
}

export interface MlpSpec<W = MatrixSource> {
  readonly activation: Activation;
  /** Present: down(act(gate(x)) · up(x)). Absent: down(act(up(x))). */
  readonly gate?: LinearSpec<W>;
  readonly up: LinearSpec<W>;
  readonly down: LinearSpec<W>;
}

/**
 * One layer. Three optional norms a sublayer: `normIn` before it, `normOut` on its output before the sum, `normSum`
 * after the sum. `serial`: attention, then mlp; `parallel`: both from the same x, and one sum (mlp.normIn absent:
 * they share attention's normIn).
 */
export interface LayerSpec<W = MatrixSource> {
  readonly arrangement: "serial" | "parallel";
  readonly attention: AttentionSpec<W> & SublayerNorms;
  readonly mlp: MlpSpec<W> & SublayerNorms;
}

export interface SublayerNorms {
  readonly normIn?: NormSpec;
  readonly normOut?: NormSpec;
  readonly normSum?: NormSpec;
}

/** A transformer's body: everything between the embedded ids and the head. */
export interface BodySpec<W = MatrixSource> {
  readonly hiddenSize: number;
  readonly maxPositions: number;
  /** Learned absolute positions: row p + offset is added to the vector at position p. */
  readonly positions?: { readonly table: W; readonly offset: number };
  readonly layers: readonly LayerSpec<W>[];
  readonly finalNorm?: NormSpec;
}

/** A whole model as a checkpoint describes it: what a family file makes of a config and its tensors. */
export interface ModelSpec {
  /** The family's name as people know it: "llama", "gpt2"… */
  readonly family: string;
  readonly body: BodySpec;
  readonly embedding: {
    /** The tensor's name, as `info` reports it. */
    readonly name: string;
    readonly table: MatrixSource;
    /** Multiplies the embedded vectors. */
    readonly scale: number;
  };
  readonly head: {
    /** Undefined when the file has no head tensor: the embedding serves. */
    readonly weight?: MatrixSource;
    readonly name?: string;
    readonly bias?: Vector;
    readonly scale: number;
    readonly softcap?: number;
    /** Names under which a second vocabulary matrix was looked for, for the report of `info`. */
    readonly names: readonly string[];
  };
  /** What the config claims about tying, or its class's default; `info` says so where it is not true. GGUF claims nothing. */
  readonly claimsTied?: boolean;
}
