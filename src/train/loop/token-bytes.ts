import type { Tokenizer } from "../../model/tokenizer/tokenizer.js";

/** UTF-8 bytes of the text of each id below `size`; of special tokens those of their names. */
export function tokenBytes(tokenizer: Tokenizer, size: number): Int32Array {
  const encoder = new TextEncoder();
  return Int32Array.from(
    { length: size },
    (_, id) => (tokenizer.bytesOf(id) ?? encoder.encode(tokenizer.tokenText(id))).length,
  );
}
