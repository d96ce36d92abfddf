// WikiText-2 comes cut into words by the Moses tokenizer: "It 's a two @-@ part ( 1 @,@ 000 ) " . This puts it back.

/** Written without a space before. */
const LEFT = new Set([",", ".", ";", ":", "!", "?", "%", ")", "]", "}", "”", "…", "′", "″", "♯", "♭"]);
/** Written without a space after. */
const RIGHT = new Set(["(", "[", "{", "“", "‘", "„", "¡", "¿"]);
/** Written without a space on either side. Wikipedia's manual of style wants the em dash so. */
const BOTH = new Set(["/", "—", "⁄"]);
/** Written without a space before a number. */
const BEFORE_NUMBER = new Set(["$", "£", "€", "¥", "₹", "₤", "#", "~"]);
/** Written without a space before the dollar sign. Not A: "A $20 book" is likelier than Australian dollars. */
const DOLLARS = new Set(["US", "AU", "C", "CA", "NZ", "HK"]);
const AFTER_APOSTROPHE = /^(s|t|re|ve|ll|d|m)$/i;

/**
 * A line of tokenised WikiText as one would write it. What follows from the tokens alone is put back: ` @-@ `, ` @,@ `
 * and ` @.@ `, contractions, closing punctuation, brackets, slashes, em dashes, currencies, times and scores ("8:30"),
 * ranges of numbers ("1914–18"), degrees, initials around "&". Straight quotes open and close in turn within a line. A
 * lone ' is a plural's genitive after an s ("players' turns"), stands for something left out when no other
 * follows ("Blowin' in the Wind"), and else opens and closes too. A heading keeps its marks: ` = = Gameplay = = ` →
 * `== Gameplay ==`.
 *
 * Not put back, since the tokens do not say it: `<unk>` (words that came fewer than 3 times), dashes between words
 * ("Song – Jin" was joined, "Navy – which" was not), "..." in the middle of a sentence, and which quote a line
 * with an odd number of them lacks (79 lines of train.txt).
 *
 * @param {string} line without its line break
 * @returns {string} without spaces at its ends
 */
export function detokenise(line) {
  const heading = /^\s*((?:= )+)(.*?\S)((?: =)+)\s*$/.exec(line);
  if (heading && heading[1].length === heading[3].length) {
    const marks = "=".repeat(heading[1].length / 2);
    return `${marks} ${detokenise(heading[2])} ${marks}`;
  }
  const tokens = line
    .replace(/ @([-,.])@ /g, "$1")
    .split(/[\s\uFEFF]+/)
    .filter((token) => token !== "");
  const quotes = new Quotes(tokens);
  let text = "";
  let glued = true;
  for (const [i, token] of tokens.entries()) {
    const { left, right } = quotes.sides(i) ?? sides(token, tokens[i - 1] ?? "", tokens[i + 1] ?? "");
    text += glued || left ? token : ` ${token}`;
    glued = right;
  }
  return text;
}

/** Whether a token is written without a space before, and without one after. */
function sides(token, previous, next) {
  const between = (before, after) => before.test(previous) && after.test(next);
  if (BOTH.has(token)) return { left: true, right: true };
  if (token === ":" && between(/\d$/, /^\d/)) return { left: true, right: true };
  if (LEFT.has(token)) return { left: true, right: false };
  if (RIGHT.has(token)) return { left: false, right: true };
  if (BEFORE_NUMBER.has(token))
    return { left: token === "$" && DOLLARS.has(previous), right: /^(\.?\d|<unk>)/.test(next) };
  if (token === "’") return { left: true, right: AFTER_APOSTROPHE.test(next) };
  if (token === "–") return both(between(/\d$/, /^\d/));
  if (token === "&") return both(between(/^[A-Z]{1,2}$/, /^[A-Z]{1,2}$/));
  if (token === "°")
    return /^[CFK]\b/.test(next) ? { left: false, right: true } : { left: true, right: false };
  if (token === "−") return { left: false, right: between(/^[a-z(]/, /^\d/) };
  // The tokenizer cuts before an apostrophe that stands between letters, and nowhere else: "O 'Brien", "can 't".
  return { left: /^'./.test(token) && /[\p{L}\p{N}>]$/u.test(previous), right: false };
}

const both = (glued) => ({ left: glued, right: glued });

/** Which of a line's " and ' open and which close. */
class Quotes {
  #tokens;
  #open = { '"': false, "'": false };
  #odd;

  constructor(tokens) {
    this.#tokens = tokens;
    this.#odd = tokens.filter((token) => token === '"').length % 2 === 1;
  }

  /** To be asked for every token in order. undefined for what is no straight quote. */
  sides(i) {
    const token = this.#tokens[i];
    if (token !== '"' && token !== "'") return undefined;
    const previous = this.#tokens[i - 1] ?? "";
    const next = this.#tokens[i + 1] ?? "";
    if (!this.#open[token]) {
      const isMeasure = /^\d[\d.,]*$/.test(previous) && (token === "'" || this.#odd || next === ")");
      const isGenitive = token === "'" && /[^'][sxz>]$/i.test(previous) && /^[\p{L}\p{N}<]/u.test(next);
      const isOmission = token === "'" && !this.#tokens.includes(token, i + 1) && !/^\d\ds$/.test(next);
      if (isMeasure || isGenitive || isOmission) return { left: true, right: false };
      if (token === "'" && /^\d\ds$/.test(next)) return { left: false, right: true };
    }
    this.#open[token] = !this.#open[token];
    return { left: !this.#open[token], right: this.#open[token] };
  }
}
