/**
 * GPT-2's byte-level alphabet (OpenAI gpt-2, `encoder.py`), a character for each byte: the printable bytes of Latin-1 as
 * themselves, the other 68 from U+0100 on, in order.
 */
export const CHARACTER_OF_BYTE: readonly string[] = alphabet();

function alphabet(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
    return String.fromCharCode(printable ? byte : next++);
  });
}
