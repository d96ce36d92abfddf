import { rowsReordered } from "../../model/formats/sources.js";
import type { LayerSpec, LinearSpec } from "../spec.js";
import type { Family } from "./family.js";
import { divided } from "./fields.js";
import { activation, layerNorm, linear, vocabulary, vocabularySpecs } from "./parts.js";
import { hfRope } from "./rope.js";

/** GPT-NeoX and Pythia (`GPTNeoXForCausalLM`): parallel sublayers with a norm each, rotary on a part of each head. */
export const gptNeox: Family = {
  type: "gpt_neox",
  architecture: "GPTNeoXForCausalLM",
  async read(config, checkpoint) {
    const D = config.whole("hidden_size");
    const F = config.whole("intermediate_size");
    const heads = config.whole("num_attention_heads");
    const headDim = divided(config.what, D, heads, "hidden_size by num_attention_heads");
    const eps = config.positive("layer_norm_eps", 1e-5);
    const act = activation(config, "hidden_act", "gelu");
    const share = config.has("rotary_pct")
      ? config.positive("rotary_pct")
      : (config.nested("rope_parameters")?.positive("partial_rotary_factor", 0.25) ?? 0.25);
    const rope = hfRope(config, headDim, share, "rotary_emb_base");
    const arrangement = config.flag("use_parallel_residual", true) ? "parallel" : "serial";
    const bias = config.flag("attention_bias", true);
    const maxPositions = config.whole("max_position_embeddings");
    const layerCount = config.whole("num_hidden_layers");
    // Every published file calls the head embed_out; transformers 5 renames the module, so new files may say lm_head.
    const found = vocabulary(
      checkpoint,
      ["gpt_neox.embed_in.weight"],
      ["embed_out.weight", "lm_head.weight"],
      {
        rows: config.whole("vocab_size"),
        dim: D,
      },
    );
    const order = queriesKeysValues(heads, headDim);

    const layers: LayerSpec[] = [];
    for (let l = 0; l < layerCount; l++) {
      const at = `gpt_neox.layers.${l}.`;
      const qkv = await linear(checkpoint, `${at}attention.query_key_value`, 3 * D, D, bias);
      layers.push({
        arrangement,
        attention: {
          heads,
          kvHeads: heads,
          headDim,
          scale: headDim ** -0.5,
          rope,
          qkv: [reordered(qkv, order)],
          output: await linear(checkpoint, `${at}attention.dense`, D, D, bias),
          normIn: await layerNorm(checkpoint, `${at}input_layernorm`, D, eps),
        },
        mlp: {
          activation: act,
          up: await linear(checkpoint, `${at}mlp.dense_h_to_4h`, F, D, true),
          down: await linear(checkpoint, `${at}mlp.dense_4h_to_h`, D, F, true),
          normIn: await layerNorm(checkpoint, `${at}post_attention_layernorm`, D, eps),
        },
      });
    }
    return {
      family: "gpt_neox",
      body: {
        hiddenSize: D,
        maxPositions,
        layers,
        finalNorm: await layerNorm(checkpoint, "gpt_neox.final_layer_norm", D, eps),
      },
      ...vocabularySpecs(found),
      claimsTied: config.flag("tie_word_embeddings", false),
    };
  },
};

/** Where each row of [q; k; v] stands in rows stored [head, (q, k, v), headDim]. */
export function queriesKeysValues(heads: number, headDim: number): Int32Array {
  const order = new Int32Array(3 * heads * headDim);
  let i = 0;
  for (let part = 0; part < 3; part++)
    for (let head = 0; head < heads; head++)
      for (let c = 0; c < headDim; c++) order[i++] = (head * 3 + part) * headDim + c;
  return order;
}

function reordered({ weight, bias }: LinearSpec, order: Int32Array): LinearSpec {
  return {
    weight: rowsReordered(weight, order),
    bias: bias && Float32Array.from(order, (row) => bias[row]),
  };
}
