import type { Checkpoint } from "../../model/formats/checkpoint.js";
import { transposed } from "../../model/formats/sources.js";
import type { LayerSpec, LinearSpec } from "../spec.js";
import type { Family } from "./family.js";
import { divided } from "./fields.js";
import { activation, layerNorm, vocabulary, vocabularySpecs } from "./parts.js";

/**
 * GPT-2 (`GPT2LMHeadModel`): learned positions, LayerNorms, biases everywhere, weights stored [in, out] (Conv1D).
 * The first published files lack the prefix "transformer." and hold the causal masks `h.N.attn.bias`, which nobody reads.
 */
export const gpt2: Family = {
  type: "gpt2",
  architecture: "GPT2LMHeadModel",
  async read(config, checkpoint) {
    const D = config.whole("n_embd");
    const heads = config.whole("n_head");
    const headDim = divided(config.what, D, heads, "n_embd by n_head");
    const inner = config.whole("n_inner", { or: 4 * D });
    const eps = config.positive("layer_norm_epsilon", 1e-5);
    const act = activation(config, "activation_function", "gelu_new");
    const maxPositions = config.whole("n_positions");
    const layerCount = config.whole("n_layer");
    if (config.flag("add_cross_attention", false))
      config.refuse("add_cross_attention", "false: cross-attention is not supported", true);
    const base = config.flag("scale_attn_weights", true) ? headDim ** -0.5 : 1;
    const byLayer = config.flag("scale_attn_by_inverse_layer_idx", false);
    const prefix = checkpoint.tensors.has("wte.weight") ? "" : "transformer.";
    const found = vocabulary(checkpoint, [`${prefix}wte.weight`], ["lm_head.weight"], {
      rows: config.whole("vocab_size"),
      dim: D,
    });

    const layers: LayerSpec[] = [];
    for (let l = 0; l < layerCount; l++) {
      const at = `${prefix}h.${l}.`;
      layers.push({
        arrangement: "serial",
        attention: {
          heads,
          kvHeads: heads,
          headDim,
          scale: byLayer ? base / (l + 1) : base,
          qkv: [await conv1d(checkpoint, `${at}attn.c_attn`, 3 * D, D)],
          output: await conv1d(checkpoint, `${at}attn.c_proj`, D, D),
          normIn: await layerNorm(checkpoint, `${at}ln_1`, D, eps),
        },
        mlp: {
          activation: act,
          up: await conv1d(checkpoint, `${at}mlp.c_fc`, inner, D),
          down: await conv1d(checkpoint, `${at}mlp.c_proj`, D, inner),
          normIn: await layerNorm(checkpoint, `${at}ln_2`, D, eps),
        },
      });
    }
    return {
      family: "gpt2",
      body: {
        hiddenSize: D,
        maxPositions,
        positions: { table: checkpoint.matrix(`${prefix}wpe.weight`, maxPositions, D), offset: 0 },
        layers,
        finalNorm: await layerNorm(checkpoint, `${prefix}ln_f`, D, eps),
      },
      ...vocabularySpecs(found),
      claimsTied: config.flag("tie_word_embeddings", true),
    };
  },
};

/** A linear layer whose weight is stored [in, out]. */
async function conv1d(checkpoint: Checkpoint, name: string, out: number, input: number): Promise<LinearSpec> {
  return {
    weight: transposed(checkpoint.matrix(`${name}.weight`, input, out)),
    bias: await checkpoint.vector(`${name}.bias`, out),
  };
}
