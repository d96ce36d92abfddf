import { InputError } from "../../errors.js";
import { wordsOf } from "./byte-level.js";

/** V8 holds no more keys than this in one Map. */
const MOST_WORDS = 2 ** 24 - 1;
/** Up to here V8 copies a part of a string; a longer part would keep the whole text in memory. */
const COPIED = 12;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The different words of texts, in order of their first appearance, and how often each came. */
export class WordCounts {
  readonly counts: number[] = [];
  private readonly index = new Map<string, number>();
  private readonly addPrefixSpace: boolean;

  /** @param addPrefixSpace whether a text that does not begin with a space gets one */
  constructor(addPrefixSpace: boolean) {
    this.addPrefixSpace = addPrefixSpace;
  }

  /**
   * Counts the words of a text; lone surrogates are read as U+FFFD.
   * @throws InputError when there are more different words than memory can index
   */
  add(text: string): void {
    let whole = text.replace(/\p{Surrogate}/gu, "\uFFFD");
    if (this.addPrefixSpace && whole !== "" && !whole.startsWith(" ")) whole = ` ${whole}`;
    for (const word of wordsOf(whole)) {
      const known = this.index.get(word);
      if (known !== undefined) this.counts[known]++;
      else this.insert(word);
    }
  }

  private insert(word: string): void {
    if (this.counts.length === MOST_WORDS)
      throw new InputError(
        `trainBpe: the texts have more than ${MOST_WORDS} different words; train on a sample of them`,
      );
    const own = word.length > COPIED ? decoder.decode(encoder.encode(word)) : word;
    this.index.set(own, this.counts.length);
    this.counts.push(1);
  }

  /** The words' UTF-8 bytes, in the order of `counts`. */
  *bytes(): Generator<Uint8Array> {
    for (const word of this.index.keys()) yield encoder.encode(word);
  }
}
