import type { GgufMetadata } from "../formats/gguf-metadata.js";

/** Tokens that end a text by their spelling, whatever a file's ids say (llama.cpp, `llama-vocab.cpp`). */
const SPELT = [
  "<|eot_id|>",
  "<|im_end|>",
  "<|end|>",
  "<|return|>",
  "<|call|>",
  "<end_of_turn>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "</s>",
  "<|eom_id|>",
  "<EOT>",
  "[EOT]",
  "[EOS]",
  "<eos>",
  "<end_of_utterance>",
  "<｜end▁of▁sentence｜>",
];

/** Metadata keys of further ids that end a text: of a turn, of a message, of a part of a filled-in file. */
const KEYS = ["eot", "eom", "fim_pad", "fim_rep", "fim_sep"];

/** Ids on which to stop, ascending: the file's own and those of tokens spelt like an end. */
export function endOfGeneration(
  meta: GgufMetadata,
  tokens: readonly string[],
  eosId: number | undefined,
): number[] {
  const ids = new Set<number>(eosId === undefined ? [] : [eosId]);
  for (const key of KEYS) {
    const id = meta.whole(`tokenizer.ggml.${key}_token_id`);
    if (id !== undefined && id < tokens.length) ids.add(id);
  }
  // In a vocabulary with <|return|> and <|call|> (harmony), <|end|> ends only a message, not the turn.
  const harmony = tokens.includes("<|return|>") && tokens.includes("<|call|>");
  for (const token of SPELT) {
    const id = tokens.indexOf(token);
    if (id >= 0 && !(harmony && token === "<|end|>")) ids.add(id);
  }
  return [...ids].sort((a, b) => a - b);
}
