import type { Family } from "./family.js";
import type { Fields } from "./fields.js";
import { readLlama, windows } from "./llama.js";

/**
 * Gemma 2 (`Gemma2ForCausalLM`): four norms a layer that multiply by 1 + w, soft-caps on attention and logits, a
 * window in every other layer, an attention scale of its own, embeddings times √D.
 */
export const gemma2: Family = {
  type: "gemma2",
  architecture: "Gemma2ForCausalLM",
  read(config, checkpoint) {
    const bias = config.flag("attention_bias", false);
    const D = config.whole("hidden_size");
    return readLlama(config, checkpoint, {
      family: "gemma2",
      qkvBias: bias,
      outputBias: bias,
      mlpBias: false,
      activation: { field: "hidden_activation", or: "gelu_pytorch_tanh" },
      headDim: 256,
      scale: config.positive("query_pre_attn_scalar", 256) ** -0.5,
      attentionSoftcap: softcap(config, "attn_logit_softcapping", 50),
      headSoftcap: softcap(config, "final_logit_softcapping", 30),
      window: windows(config, config.whole("sliding_window", { or: 4096 }), (layer) => layer % 2 === 0),
      gemmaNorms: true,
      // transformers keeps √D in the embedding's own precision: bf16 makes 55.5 of √3072 = 55.43.
      embeddingScale: (type) => roundTo(type, Math.sqrt(D)),
      tiedByDefault: true,
    });
  },
};

/** A positive number to the nearest that a storage type has, ties to even; as it is for quantised types. */
export function roundTo(type: string, x: number): number {
  if (type === "f32") return Math.fround(x);
  const bits = type === "f16" ? 10 : type === "bf16" ? 7 : undefined;
  if (bits === undefined) return x;
  const step = 2 ** (Math.floor(Math.log2(x)) - bits);
  const whole = Math.floor(x / step);
  const rest = x / step - whole;
  return step * (whole + (rest > 0.5 || (rest === 0.5 && whole % 2 === 1) ? 1 : 0));
}

/** A soft-cap: absent means the class's default, null means none. */
function softcap(config: Fields, name: string, or: number): number | undefined {
  return config.isNull(name) ? undefined : config.positive(name, or);
}
