import type { Tokenizer } from "./tokenizer/tokenizer.js";

/**
 * Ids of text that goes on after other text. SentencePiece-like tokenizers put a space before whatever they encode, so
 * " time" would become a space and " time"; after other tokens the space is the text's own. The reading that gives the
 * text back, to the character, is taken; where none does, the tokenizer's plain one.
 * @param after ids of the text before it, at least one
 */
export function continuationIds(tokenizer: Tokenizer, text: string, after: readonly number[]): number[] {
  const encode = (part: string) => tokenizer.encode(part, { addSpecialTokens: false });
  const plain = encode(text);
  if (!text.startsWith(" ") || read(tokenizer, plain, after) === text) return plain;
  const cut = encode(text.slice(1));
  return read(tokenizer, cut, after) === text ? cut : plain;
}

function read(tokenizer: Tokenizer, ids: readonly number[], after: readonly number[]): string {
  const stream = tokenizer.textStream({ after });
  return ids.map((id) => stream.push(id)).join("") + stream.end();
}
