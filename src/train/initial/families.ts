import { type InitialFamily, rotaryShares, type Sizes } from "./shape.js";

/** What JSON holds. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: JsonValue;
}

/** A tensor before its numbers are there: drawn from N(0, std²), or all one number. */
export interface InitialTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly from: { readonly std: number } | { readonly fill: 0 | 1 };
}

/** A new model's `config.json` and tensors, in the order of transformers' modules. */
export interface Plan {
  readonly config: JsonObject;
  readonly tensors: readonly InitialTensor[];
}

/** `initializer_range` of every config class here. */
const RANGE = 0.02;

/**
 * Configs as each class of transformers has them by default, but for what a shape says; tensors by the names that its
 * `save_pretrained` writes, with the numbers of `PreTrainedModel._init_weights` (N(0, initializer_range²) for linear
 * layers and embeddings, 0 for biases, 1 for norms) and of the classes that override it: GPT-2 and Gemma 2.
 * Source: transformers 5.24, `modeling_utils.py` and `models/*`.
 */
export const plans: Readonly<Record<InitialFamily, (sizes: Sizes) => Plan>> = {
  gpt2: planGpt2,
  llama: (sizes) =>
    planLlama(sizes, {
      architecture: "LlamaForCausalLM",
      config: { hidden_act: "silu", attention_bias: false, mlp_bias: false },
    }),
  qwen2: (sizes) =>
    planLlama(sizes, {
      architecture: "Qwen2ForCausalLM",
      config: { hidden_act: "silu", use_sliding_window: false },
      qkvBias: true,
    }),
  gemma2: (sizes) =>
    planLlama(sizes, {
      architecture: "Gemma2ForCausalLM",
      config: {
        hidden_activation: "gelu_pytorch_tanh",
        head_dim: sizes.headDim,
        // The class says 256, the head size of the published 2B and 9B.
        query_pre_attn_scalar: sizes.headDim,
        sliding_window: 4096,
        attention_bias: false,
        // The soft-caps are left to the class (50 and 30): transformers 5 refuses a whole number there, and 30.0 in
        // JavaScript's JSON is 30.
      },
      gemmaNorms: true,
    }),
  gpt_neox: planGptNeox,
  phi: planPhi,
};

/** Collects tensors by what they are. */
class TensorList {
  readonly tensors: InitialTensor[] = [];

  drawn(name: string, shape: readonly number[], std = RANGE): void {
    this.tensors.push({ name, shape, from: { std } });
  }

  filled(name: string, length: number, fill: 0 | 1): void {
    this.tensors.push({ name, shape: [length], from: { fill } });
  }

  linear(name: string, out: number, input: number, bias: boolean): void {
    this.drawn(`${name}.weight`, [out, input]);
    if (bias) this.filled(`${name}.bias`, out, 0);
  }

  layerNorm(name: string, size: number): void {
    this.filled(`${name}.weight`, size, 1);
    this.filled(`${name}.bias`, size, 0);
  }
}

/** Fields that all configs have under one name. */
function common(architecture: string, sizes: Sizes): JsonObject {
  return {
    architectures: [architecture],
    model_type: sizes.family,
    vocab_size: sizes.vocabSize,
    tie_word_embeddings: sizes.tied,
    initializer_range: RANGE,
    // Absent, the class's own ids would hold: those of another tokenizer.
    bos_token_id: sizes.bosTokenId,
    eos_token_id: sizes.eosTokenId,
    pad_token_id: null,
    torch_dtype: "float32",
  };
}

/** Sizes under the names that all but GPT-2 use. */
function commonSizes({ hiddenSize, innerSize, layers, heads, maxPositions }: Sizes): JsonObject {
  return {
    hidden_size: hiddenSize,
    intermediate_size: innerSize,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    max_position_embeddings: maxPositions,
  };
}

function planGpt2(sizes: Sizes): Plan {
  const { vocabSize, hiddenSize: D, innerSize: F, layers, heads, maxPositions, tied } = sizes;
  const list = new TensorList();
  // Stored [in, out]. Projections onto the residual stream are scaled down by how many there are.
  const conv = (name: string, input: number, out: number, std = RANGE) => {
    list.drawn(`${name}.weight`, [input, out], std);
    list.filled(`${name}.bias`, out, 0);
  };
  const residual = RANGE / Math.sqrt(2 * layers);
  list.drawn("transformer.wte.weight", [vocabSize, D]);
  list.drawn("transformer.wpe.weight", [maxPositions, D]);
  for (let l = 0; l < layers; l++) {
    const at = `transformer.h.${l}.`;
    list.layerNorm(`${at}ln_1`, D);
    conv(`${at}attn.c_attn`, D, 3 * D);
    conv(`${at}attn.c_proj`, D, D, residual);
    list.layerNorm(`${at}ln_2`, D);
    conv(`${at}mlp.c_fc`, D, F);
    conv(`${at}mlp.c_proj`, F, D, residual);
  }
  list.layerNorm("transformer.ln_f", D);
  if (!tied) list.linear("lm_head", vocabSize, D, false);
  const config = {
    ...common("GPT2LMHeadModel", sizes),
    n_embd: D,
    n_inner: F,
    n_layer: layers,
    n_head: heads,
    n_positions: maxPositions,
    activation_function: "gelu_new",
    layer_norm_epsilon: 1e-5,
  };
  return { config, tensors: list.tensors };
}

/** Where the relatives of Llama differ from each other. */
interface LlamaVariant {
  readonly architecture: string;
  readonly config: JsonObject;
  readonly qkvBias?: boolean;
  /** Gemma 2: norms hold w and multiply by 1 + w, and each sublayer has one on its output too. */
  readonly gemmaNorms?: boolean;
}

function planLlama(sizes: Sizes, variant: LlamaVariant): Plan {
  const { vocabSize, hiddenSize: D, innerSize: F, layers, kvHeads, headDim, tied } = sizes;
  const { qkvBias = false, gemmaNorms = false } = variant;
  const list = new TensorList();
  const norm = (name: string) => list.filled(`${name}.weight`, D, gemmaNorms ? 0 : 1);
  list.drawn("model.embed_tokens.weight", [vocabSize, D]);
  for (let l = 0; l < layers; l++) {
    const at = `model.layers.${l}.`;
    list.linear(`${at}self_attn.q_proj`, D, D, qkvBias);
    list.linear(`${at}self_attn.k_proj`, kvHeads * headDim, D, qkvBias);
    list.linear(`${at}self_attn.v_proj`, kvHeads * headDim, D, qkvBias);
    list.linear(`${at}self_attn.o_proj`, D, D, false);
    list.linear(`${at}mlp.gate_proj`, F, D, false);
    list.linear(`${at}mlp.up_proj`, F, D, false);
    list.linear(`${at}mlp.down_proj`, D, F, false);
    norm(`${at}input_layernorm`);
    norm(`${at}post_attention_layernorm`);
    if (gemmaNorms) {
      norm(`${at}pre_feedforward_layernorm`);
      norm(`${at}post_feedforward_layernorm`);
    }
  }
  norm("model.norm");
  if (!tied) list.linear("lm_head", vocabSize, D, false);
  const config = {
    ...common(variant.architecture, sizes),
    ...commonSizes(sizes),
    num_key_value_heads: kvHeads,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    ...variant.config,
  };
  return { config, tensors: list.tensors };
}

function planGptNeox(sizes: Sizes): Plan {
  const { family, vocabSize, hiddenSize: D, innerSize: F, layers, tied } = sizes;
  const list = new TensorList();
  list.drawn("gpt_neox.embed_in.weight", [vocabSize, D]);
  for (let l = 0; l < layers; l++) {
    const at = `gpt_neox.layers.${l}.`;
    list.layerNorm(`${at}input_layernorm`, D);
    list.layerNorm(`${at}post_attention_layernorm`, D);
    list.linear(`${at}attention.query_key_value`, 3 * D, D, true);
    list.linear(`${at}attention.dense`, D, D, true);
    list.linear(`${at}mlp.dense_h_to_4h`, F, D, true);
    list.linear(`${at}mlp.dense_4h_to_h`, D, F, true);
  }
  list.layerNorm("gpt_neox.final_layer_norm", D);
  if (!tied) list.linear("embed_out", vocabSize, D, false);
  const config = {
    ...common("GPTNeoXForCausalLM", sizes),
    ...commonSizes(sizes),
    hidden_act: "gelu",
    layer_norm_eps: 1e-5,
    rotary_pct: rotaryShares[family],
    rotary_emb_base: 10000,
    use_parallel_residual: true,
    attention_bias: true,
  };
  return { config, tensors: list.tensors };
}

function planPhi(sizes: Sizes): Plan {
  const { family, vocabSize, hiddenSize: D, innerSize: F, layers, kvHeads, headDim, tied } = sizes;
  const list = new TensorList();
  list.drawn("model.embed_tokens.weight", [vocabSize, D]);
  for (let l = 0; l < layers; l++) {
    const at = `model.layers.${l}.`;
    list.linear(`${at}self_attn.q_proj`, D, D, true);
    list.linear(`${at}self_attn.k_proj`, kvHeads * headDim, D, true);
    list.linear(`${at}self_attn.v_proj`, kvHeads * headDim, D, true);
    list.linear(`${at}self_attn.dense`, D, D, true);
    list.linear(`${at}mlp.fc1`, F, D, true);
    list.linear(`${at}mlp.fc2`, D, F, true);
    list.layerNorm(`${at}input_layernorm`, D);
  }
  list.layerNorm("model.final_layernorm", D);
  // A tied head has a bias of its own all the same.
  if (!tied) list.drawn("lm_head.weight", [vocabSize, D]);
  list.filled("lm_head.bias", vocabSize, 0);
  const config = {
    ...common("PhiForCausalLM", sizes),
    ...commonSizes(sizes),
    num_key_value_heads: kvHeads,
    hidden_act: "gelu_new",
    layer_norm_eps: 1e-5,
    rope_theta: 10000,
    partial_rotary_factor: rotaryShares[family],
    qk_layernorm: false,
  };
  return { config, tensors: list.tensors };
}
