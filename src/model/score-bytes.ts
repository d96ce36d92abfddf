import type { Tokenizer } from "./tokenizer/tokenizer.js";

/**
 * UTF-8 bytes of the text that is predicted when a model reads `ids`: all of it but what the first token stands for, as
 * nothing stands before that. Of a given text its own bytes are counted, whatever the tokenizer makes of them, so that
 * different tokenizers have the same number.
 * @param text what the ids were made of; undefined: the ids were given, and their text is what they decode to
 */
export function predictedBytes(tokenizer: Tokenizer, ids: readonly number[], text?: string): number {
  const bytes = tokenizer.textBytes(ids);
  const all =
    text === undefined
      ? bytes.reduce((sum, some) => sum + some, 0)
      : utf8Length(text) - specialBytes(tokenizer, ids, text);
  return all - bytes[0];
}

/** Bytes by which a text spells special tokens; those that the tokenizer added are not found there. */
function specialBytes(tokenizer: Tokenizer, ids: readonly number[], text: string): number {
  let bytes = 0;
  let from = 0;
  for (const id of ids) {
    if (!tokenizer.specialIds.has(id)) continue;
    const spelling = tokenizer.token(id);
    const at = text.indexOf(spelling, from);
    if (at < 0) continue;
    from = at + spelling.length;
    bytes += utf8Length(spelling);
  }
  return bytes;
}

function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}
