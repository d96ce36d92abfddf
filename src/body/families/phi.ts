import type { LayerSpec } from "../spec.js";
import type { Family } from "./family.js";
import { divided } from "./fields.js";
import { activation, checkHeads, layerNorm, linear, vocabulary, vocabularySpecs } from "./parts.js";
import { hfRope } from "./rope.js";

/**
 * Phi-1, 1.5 and 2 (`PhiForCausalLM`): parallel sublayers that share one norm, rotary on a part of each head, biases
 * everywhere, on the head too.
 */
export const phi: Family = {
  type: "phi",
  architecture: "PhiForCausalLM",
  async read(config, checkpoint) {
    const D = config.whole("hidden_size");
    const F = config.whole("intermediate_size");
    const heads = config.whole("num_attention_heads");
    const kvHeads = config.whole("num_key_value_heads", { or: heads });
    const headDim = divided(config.what, D, heads, "hidden_size by num_attention_heads");
    const sizes = checkHeads(config.what, { heads, kvHeads, headDim });
    const eps = config.positive("layer_norm_eps", 1e-5);
    const act = activation(config, "hidden_act", "gelu_new");
    const share = config.nested("rope_parameters")?.positive("partial_rotary_factor", 0.5) ?? 0.5;
    const rope = hfRope(config, headDim, config.positive("partial_rotary_factor", share));
    const headNorms = config.flag("qk_layernorm", false);
    const maxPositions = config.whole("max_position_embeddings");
    const layerCount = config.whole("num_hidden_layers");
    const V = config.whole("vocab_size");
    const found = vocabulary(checkpoint, ["model.embed_tokens.weight"], ["lm_head.weight"], {
      rows: V,
      dim: D,
    });

    const layers: LayerSpec[] = [];
    for (let l = 0; l < layerCount; l++) {
      const at = `model.layers.${l}.`;
      const headNorm = (name: string) =>
        headNorms ? layerNorm(checkpoint, `${at}self_attn.${name}`, headDim, eps) : undefined;
      const q = heads * headDim;
      const kv = kvHeads * headDim;
      layers.push({
        arrangement: "parallel",
        attention: {
          ...sizes,
          scale: headDim ** -0.5,
          rope,
          qNorm: await headNorm("q_layernorm"),
          kNorm: await headNorm("k_layernorm"),
          qkv: [
            await linear(checkpoint, `${at}self_attn.q_proj`, q, D, true),
            await linear(checkpoint, `${at}self_attn.k_proj`, kv, D, true),
            await linear(checkpoint, `${at}self_attn.v_proj`, kv, D, true),
          ],
          output: await linear(checkpoint, `${at}self_attn.dense`, D, q, true),
          normIn: await layerNorm(checkpoint, `${at}input_layernorm`, D, eps),
        },
        mlp: {
          activation: act,
          up: await linear(checkpoint, `${at}mlp.fc1`, F, D, true),
          down: await linear(checkpoint, `${at}mlp.fc2`, D, F, true),
        },
      });
    }
    return {
      family: "phi",
      body: {
        hiddenSize: D,
        maxPositions,
        layers,
        finalNorm: await layerNorm(checkpoint, "model.final_layernorm", D, eps),
      },
      ...vocabularySpecs(found, { bias: await checkpoint.vector("lm_head.bias", V) }),
      claimsTied: config.flag("tie_word_embeddings", false),
    };
  },
};
