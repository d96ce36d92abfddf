import { InputError } from "../../errors.js";
import type { Checkpoint } from "../../model/formats/checkpoint.js";
import type { RopeSpec } from "../spec.js";
import { divided, type Fields } from "./fields.js";
import { checkHeads, type HeadSizes } from "./parts.js";
import { plainFrequencies, ropeColumns } from "./rope.js";

/** The sizes that every GGUF decoder's metadata give. D hidden size, F inner size of the MLP. */
export interface GgufSizes extends HeadSizes {
  readonly D: number;
  readonly F: number;
  readonly layers: number;
  readonly maxPositions: number;
}

/** @throws InputError when a size is missing or malformed, or they do not fit together */
export function ggufSizes(fields: Fields, key: (name: string) => string): GgufSizes {
  const layers = fields.whole(key("block_count"), { max: 2 ** 16 });
  const D = fields.whole(key("embedding_length"));
  const heads = fields.wholePerLayer(key("attention.head_count"), layers);
  const kvHeads = fields.wholePerLayer(key("attention.head_count_kv"), layers, { or: heads });
  const headDim = fields.has(key("attention.key_length"))
    ? fields.whole(key("attention.key_length"))
    : divided(fields.what, D, heads, `${key("embedding_length")} by attention.head_count`);
  const valueDim = fields.whole(key("attention.value_length"), { or: headDim });
  if (valueDim !== headDim)
    fields.refuse(key("attention.value_length"), `${headDim}, the length of keys`, valueDim);
  const F = fields.wholePerLayer(key("feed_forward_length"), layers);
  const maxPositions = fields.whole(key("context_length"));
  return { layers, D, F, maxPositions, ...checkHeads(fields.what, { heads, kvHeads, headDim }) };
}

/**
 * Rotary positions of the metadata. A tensor `rope_freqs.weight` (Llama 3's scaling, baked in) divides the
 * frequencies; scaling types: none, linear.
 */
export async function ggufRope(
  fields: Fields,
  checkpoint: Checkpoint,
  key: (name: string) => string,
  headDim: number,
  layout: RopeSpec["layout"],
): Promise<RopeSpec> {
  const dims = ropeColumns(fields.what, fields.whole(key("rope.dimension_count"), { or: headDim }), headDim);
  const frequencies = plainFrequencies(dims, fields.positive(key("rope.freq_base"), 10000));
  const type = fields.text(key("rope.scaling.type"), "linear");
  if (type !== "none" && type !== "linear")
    throw new InputError(
      `${fields.what}: rope scaling type "${type}" is not supported; supported are none, linear`,
    );
  if (type === "linear") {
    // 0 stands for "no scaling" in old files.
    const name = key(fields.has(key("rope.scaling.factor")) ? "rope.scaling.factor" : "rope.scale_linear");
    const factor = fields.isZero(name) ? 1 : fields.positive(name, 1);
    for (let i = 0; i < frequencies.length; i++) frequencies[i] /= factor;
  }
  if (checkpoint.tensors.has("rope_freqs.weight")) {
    const factors = await checkpoint.vector("rope_freqs.weight", frequencies.length);
    for (const [i, factor] of factors.entries()) {
      if (!(factor > 0))
        throw new InputError(
          `${checkpoint.name}: rope_freqs.weight: number ${i} is ${factor}, expected above 0`,
        );
      frequencies[i] /= factor;
    }
  }
  return { layout, frequencies, attentionFactor: 1 };
}
