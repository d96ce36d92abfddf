/** GPT-2's byte-level alphabet and its rule for cutting a text into words (OpenAI gpt-2, `encoder.py`). */

/** A character for each byte: the printable bytes of Latin-1 as themselves, the other 68 from U+0100 on, in order. */
export const CHARACTER_OF_BYTE: readonly string[] = alphabet();

function alphabet(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
    return String.fromCharCode(printable ? byte : next++);
  });
}

/**
 * GPT-2's pattern. White space is written as Unicode's property: JavaScript's \s has U+FEFF and lacks U+0085, other
 * than that of Hugging Face's `tokenizers`.
 */
const WORD =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** Gives each word of a text in order; joined, they are the text. */
export function* wordsOf(text: string): Generator<string> {
  for (const [word] of text.matchAll(WORD)) yield word;
}
