// What is kept of a text that a small model wrote.

/**
 * The text up to its last whole sentence; undefined when that is too short, or says the same thing again and again.
 * @param {string} text
 * @param {boolean} ended whether the model ended it itself
 */
export function cleaned(text, ended) {
  const trimmed = text.trim();
  const end = ended ? trimmed.length : lastSentenceEnd(trimmed);
  const kept = trimmed.slice(0, end);
  return kept.length < 40 || repeats(kept) ? undefined : kept;
}

function lastSentenceEnd(text) {
  const ends = [...text.matchAll(/[.!?]["”)]?(?=\s|$)/g)];
  const last = ends.at(-1);
  return last ? last.index + last[0].length : 0;
}

/** Whether a row of four words comes more than three times. */
function repeats(text) {
  const words = text.toLowerCase().match(/[\p{L}\p{N}']+/gu) ?? [];
  const counts = new Map();
  for (let i = 0; i + 4 <= words.length; i++) {
    const row = words.slice(i, i + 4).join(" ");
    const count = (counts.get(row) ?? 0) + 1;
    if (count > 3) return true;
    counts.set(row, count);
  }
  return false;
}
