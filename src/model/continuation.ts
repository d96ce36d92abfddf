import type { Tokenizer } from "./tokenizer/tokenizer.js";

/**
 * Ids of text that goes on after other text, to the character: SentencePiece-like tokenizers put a space before
 * whatever they encode, which is not there in "bed" after "bath". Where nothing but special tokens stands before, a text
 * begins, and gets that space as ever, unless it has one: both "Once" and " Once" are then the token " Once".
 * @param after ids of what stands before it
 */
export function continuationIds(tokenizer: Tokenizer, text: string, after: readonly number[]): number[] {
  const begins = !text.startsWith(" ") && after.every((id) => tokenizer.specialIds.has(id));
  return tokenizer.encode(text, { addSpecialTokens: false, continues: !begins });
}
