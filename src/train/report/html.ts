/**
 * Text as HTML: the five characters that HTML reads are escaped; those that cannot be seen, but for line ends and tabs,
 * are named ("\u{1b}"), as are halves of characters, which UTF-8 cannot hold.
 */
export function escaped(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cs}]/gu, (char) =>
      char === "\n" || char === "\t" ? char : `\\u{${char.codePointAt(0)!.toString(16)}}`,
    )
    .replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** A value as JSON that may stand in a script element: nothing in it ends the element or opens a comment. */
export function scriptJson(value: unknown): string {
  return JSON.stringify(value).replaceAll("<", "\\u003c");
}
