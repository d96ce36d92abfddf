import { InputError } from "../../errors.js";
import type { MatrixSource } from "../../kernels/device.js";
import type { Activation } from "../../kernels/op.js";
import type { Checkpoint } from "../../model/formats/checkpoint.js";
import type { LinearSpec, ModelSpec, NormSpec } from "../spec.js";
import type { Fields } from "./fields.js";

/** Hugging Face's names of activations (`transformers/activations.py`). */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  gelu: "geluErf",
  gelu_new: "geluTanh",
  gelu_fast: "geluTanh",
  gelu_pytorch_tanh: "geluTanh",
  relu: "relu",
  silu: "silu",
  swish: "silu",
  tanh: "tanh",
};

/** The activation that a config names. @throws InputError listing the known ones */
export function activation(config: Fields, field: string, or: string): Activation {
  const name = config.text(field, or);
  if (!Object.hasOwn(ACTIVATIONS, name))
    throw new InputError(
      `${config.what}: ${field} "${name}" is not supported; supported are ${Object.keys(ACTIVATIONS).join(", ")}`,
    );
  return ACTIVATIONS[name];
}

/** Query heads, key heads and head size, and whether they fit together. */
export interface HeadSizes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** @throws InputError when the key heads do not divide the query heads */
export function checkHeads(what: string, sizes: HeadSizes): HeadSizes {
  if (sizes.heads % sizes.kvHeads !== 0)
    throw new InputError(
      `${what}: ${sizes.heads} query heads are not divisible by ${sizes.kvHeads} key heads`,
    );
  return sizes;
}

/**
 * A linear layer `name.weight` [out, in] with, when `bias`, `name.bias` [out].
 * @param bias "present": a bias when the checkpoint has one
 */
export async function linear(
  checkpoint: Checkpoint,
  name: string,
  out: number,
  input: number,
  bias: boolean | "present",
): Promise<LinearSpec> {
  const weight = checkpoint.matrix(`${name}.weight`, out, input);
  const has = bias === "present" ? checkpoint.tensors.has(`${name}.bias`) : bias;
  return has ? { weight, bias: await checkpoint.vector(`${name}.bias`, out) } : { weight };
}

/** A LayerNorm `name.weight`, `name.bias` [size]. */
export async function layerNorm(
  checkpoint: Checkpoint,
  name: string,
  size: number,
  eps: number,
): Promise<NormSpec> {
  const weight = await checkpoint.vector(`${name}.weight`, size);
  return { kind: "layer", weight, bias: await checkpoint.vector(`${name}.bias`, size), eps };
}

/** An RMSNorm `name.weight` [size]; `plusOne` when the file holds w and the norm multiplies by 1 + w. */
export async function rmsNorm(
  checkpoint: Checkpoint,
  name: string,
  size: number,
  eps: number,
  plusOne = false,
): Promise<NormSpec> {
  const weight = await checkpoint.vector(`${name}.weight`, size);
  return { kind: "rms", weight: plusOne ? weight.map((w) => 1 + w) : weight, eps };
}

/** A tensor's name and its rows. */
interface Named {
  readonly name: string;
  readonly source: MatrixSource;
}

/** What `vocabulary` found. */
export interface Vocabulary {
  readonly embedding: Named;
  readonly head?: Named;
  /** The names that were looked for beside `embedding`. */
  readonly names: readonly string[];
}

/**
 * The vocabulary's matrices under the names that a family uses for them: both, or the one that serves for both.
 * @param rows V; undefined: what the tensor has
 * @throws InputError naming what was looked for when there is none
 */
export function vocabulary(
  checkpoint: Checkpoint,
  embeddingNames: readonly string[],
  headNames: readonly string[],
  size: { readonly rows?: number; readonly dim: number },
): Vocabulary {
  const find = (names: readonly string[]): Named | undefined => {
    const name = names.find((name) => checkpoint.tensors.has(name));
    if (name === undefined) return undefined;
    const rows = size.rows ?? checkpoint.tensors.get(name)!.shape[0];
    return { name, source: checkpoint.matrix(name, rows, size.dim) };
  };
  const embedding = find(embeddingNames);
  const head = find(headNames);
  if (embedding) return { embedding, head, names: headNames };
  if (head) return { embedding: head, names: embeddingNames };
  throw new InputError(
    `${checkpoint.name}: no vocabulary matrix: looked for ${[...embeddingNames, ...headNames].join(", ")}`,
  );
}

/** The two vocabulary parts of a `ModelSpec`; both sources must have one number of rows. */
export function vocabularySpecs(
  { embedding, head, names }: Vocabulary,
  options: { readonly scale?: number; readonly bias?: Float32Array; readonly softcap?: number } = {},
): Pick<ModelSpec, "embedding" | "head"> {
  const { scale = 1, bias, softcap } = options;
  if (head && head.source.rows !== embedding.source.rows)
    throw new InputError(
      `${head.name} has ${head.source.rows} rows and ${embedding.name} ${embedding.source.rows}: they must be one vocabulary`,
    );
  return {
    embedding: { name: embedding.name, table: embedding.source, scale },
    head: { name: head?.name, weight: head?.source, bias, scale: 1, softcap, names },
  };
}
