import type { Family } from "./family.js";
import { readLlama, windows } from "./llama.js";

/** Qwen2 and Qwen2.5 (`Qwen2ForCausalLM`): Llama with biases on queries, keys and values. */
export const qwen2: Family = {
  type: "qwen2",
  architecture: "Qwen2ForCausalLM",
  read(config, checkpoint) {
    const size = config.flag("use_sliding_window", false)
      ? config.whole("sliding_window", { or: 4096 })
      : undefined;
    const full = config.whole("max_window_layers", { min: 0, or: 28 });
    return readLlama(config, checkpoint, {
      family: "qwen2",
      qkvBias: true,
      outputBias: false,
      mlpBias: false,
      activation: { field: "hidden_act", or: "silu" },
      window: windows(config, size, (layer) => layer >= full),
      tiedByDefault: false,
    });
  },
};
