/** GPT-2's rule for cutting a text into words (OpenAI gpt-2, `encoder.py`). */

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
