import type { Checkpoint } from "../../model/formats/checkpoint.js";
import type { LayerSpec, ModelSpec } from "../spec.js";
import type { Family } from "./family.js";
import { divided, type Fields } from "./fields.js";
import { activation, checkHeads, linear, rmsNorm, vocabulary, vocabularySpecs } from "./parts.js";
import { hfRope } from "./rope.js";

/** Where the relatives of Llama differ from each other. */
export interface LlamaVariant {
  readonly family: string;
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  readonly activation: { readonly field: string; readonly or: string };
  /** Head size when the config has none; default D / heads. */
  readonly headDim?: number;
  /** The attention's scale; default headDim^-½. */
  readonly scale?: number;
  readonly attentionSoftcap?: number;
  readonly headSoftcap?: number;
  /** The window of a layer; undefined: it sees everything. */
  readonly window?: (layer: number) => number | undefined;
  /** Gemma 2: norms hold w and multiply by 1 + w, and each sublayer has one on its output too. */
  readonly gemmaNorms?: boolean;
  readonly embeddingScale?: (type: string) => number;
  readonly tiedByDefault: boolean;
}

/** Llama (`LlamaForCausalLM`), and what is published in its form: SmolLM, TinyLlama and many others. */
export const llama: Family = {
  type: "llama",
  architecture: "LlamaForCausalLM",
  read(config, checkpoint) {
    const bias = config.flag("attention_bias", false);
    return readLlama(config, checkpoint, {
      family: "llama",
      qkvBias: bias,
      outputBias: bias,
      mlpBias: config.flag("mlp_bias", false),
      activation: { field: "hidden_act", or: "silu" },
      tiedByDefault: false,
    });
  },
};

/** RMS norms before both sublayers, rotary positions, grouped heads, a gated MLP: Llama and its relatives. */
export async function readLlama(
  config: Fields,
  checkpoint: Checkpoint,
  variant: LlamaVariant,
): Promise<ModelSpec> {
  const D = config.whole("hidden_size");
  const F = config.whole("intermediate_size");
  const heads = config.whole("num_attention_heads");
  const kvHeads = config.whole("num_key_value_heads", { or: heads });
  const headDim = config.has("head_dim")
    ? config.whole("head_dim")
    : (variant.headDim ?? divided(config.what, D, heads, "hidden_size by num_attention_heads"));
  const sizes = checkHeads(config.what, { heads, kvHeads, headDim });
  const eps = config.positive("rms_norm_eps", 1e-6);
  const act = activation(config, variant.activation.field, variant.activation.or);
  const rope = hfRope(config, headDim);
  const layerCount = config.whole("num_hidden_layers");
  const maxPositions = config.whole("max_position_embeddings");
  const found = vocabulary(checkpoint, ["model.embed_tokens.weight"], ["lm_head.weight"], {
    rows: config.whole("vocab_size"),
    dim: D,
  });

  const layers: LayerSpec[] = [];
  for (let l = 0; l < layerCount; l++) {
    const at = `model.layers.${l}.`;
    const part = (name: string, out: number, input: number, bias: boolean) =>
      linear(checkpoint, at + name, out, input, bias);
    const norm = (name: string) => rmsNorm(checkpoint, at + name, D, eps, variant.gemmaNorms);
    const q = heads * headDim;
    const kv = kvHeads * headDim;
    layers.push({
      arrangement: "serial",
      attention: {
        ...sizes,
        scale: variant.scale ?? headDim ** -0.5,
        softcap: variant.attentionSoftcap,
        window: variant.window?.(l),
        rope,
        qkv: [
          await part("self_attn.q_proj", q, D, variant.qkvBias),
          await part("self_attn.k_proj", kv, D, variant.qkvBias),
          await part("self_attn.v_proj", kv, D, variant.qkvBias),
        ],
        output: await part("self_attn.o_proj", D, q, variant.outputBias),
        normIn: await norm("input_layernorm"),
        normOut: variant.gemmaNorms ? await norm("post_attention_layernorm") : undefined,
      },
      mlp: {
        activation: act,
        gate: await part("mlp.gate_proj", F, D, variant.mlpBias),
        up: await part("mlp.up_proj", F, D, variant.mlpBias),
        down: await part("mlp.down_proj", D, F, variant.mlpBias),
        // Llama names the norm before the MLP after the attention that it follows; Gemma 2 has norms on both sides.
        normIn: await norm(variant.gemmaNorms ? "pre_feedforward_layernorm" : "post_attention_layernorm"),
        normOut: variant.gemmaNorms ? await norm("post_feedforward_layernorm") : undefined,
      },
    });
  }
  const finalNorm = await rmsNorm(checkpoint, "model.norm", D, eps, variant.gemmaNorms);
  return {
    family: variant.family,
    body: { hiddenSize: D, maxPositions, layers, finalNorm },
    ...vocabularySpecs(found, {
      scale: variant.embeddingScale?.(found.embedding.source.type),
      softcap: variant.headSoftcap,
    }),
    claimsTied: config.flag("tie_word_embeddings", variant.tiedByDefault),
  };
}

/**
 * The windows of a config with `layer_types` (one of "full_attention", "sliding_attention" a layer).
 * @param size the window of sliding layers; undefined: no layer slides
 * @param slides which layers slide when the config has no `layer_types`
 */
export function windows(
  config: Fields,
  size: number | undefined,
  slides: (layer: number) => boolean,
): (layer: number) => number | undefined {
  const types = config.texts("layer_types");
  if (types && types.length !== config.whole("num_hidden_layers"))
    config.refuse(
      "layer_types",
      `one type for each of the ${config.whole("num_hidden_layers")} layers`,
      types,
    );
  const unknown = types?.find((type) => type !== "full_attention" && type !== "sliding_attention");
  if (unknown !== undefined) config.refuse("layer_types", "full_attention or sliding_attention", unknown);
  if (size === undefined && types?.includes("sliding_attention"))
    config.refuse("sliding_window", "a whole number, for the layers that slide", undefined);
  return (layer) => ((types ? types[layer] === "sliding_attention" : slides(layer)) ? size : undefined);
}
