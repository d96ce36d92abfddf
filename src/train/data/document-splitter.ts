import { InputError } from "../../errors.js";

/**
 * Where a text file's documents end. "file": with the file. "lines": each line is one. "blank-lines": at lines of
 * nothing but white space. `{ separator }`: wherever that text is ("<|endoftext|>"). Separators belong to no document,
 * nor does a line break just before or after one of "lines" and "blank-lines".
 */
export type DocumentSplit = "file" | "lines" | "blank-lines" | { readonly separator: string };

/** A document, or a part of one that is too long to be held at once. Joined, the parts are the document's text. */
export interface DocumentPart {
  readonly text: string;
  /** Whether the document ends here. */
  readonly last: boolean;
}

/** UTF-16 units after which a document is given in parts. */
export const PART = 1 << 16;

/** @throws InputError for what is no `DocumentSplit` */
export function checkSplit(split: unknown): asserts split is DocumentSplit {
  if (split === "file" || split === "lines" || split === "blank-lines") return;
  const { separator, ...rest } = Object(split);
  if (typeof separator === "string" && separator !== "" && Object.keys(rest).length === 0) return;
  throw new InputError(
    `split: expected "file", "lines", "blank-lines" or { separator: text }, got ${JSON.stringify(split)}`,
  );
}

/**
 * Gathers text of one document and gives it in parts of about `PART` units. It is cut before a space that follows a
 * letter or digit, where each word-cutting tokenizer begins a new word, so that parts give the ids of the whole; text
 * without such a place for four parts is cut between any two characters. Documents of nothing but white space are left out.
 */
export class PartCutter {
  private held = "";
  /** Whether a part of this document has been given. */
  private begun = false;

  /** More of the document. */
  *text(text: string): Generator<DocumentPart> {
    this.held += text;
    while (this.held.length > PART) {
      const at = placeToCut(this.held);
      if (at === undefined) return;
      yield { text: this.held.slice(0, at), last: false };
      this.held = this.held.slice(at);
      this.begun = true;
    }
  }

  /** The document's end. */
  *end(): Generator<DocumentPart> {
    if (this.begun || this.held.trim() !== "") yield { text: this.held, last: true };
    this.held = "";
    this.begun = false;
  }
}

/** The first good place from `PART` on, within four parts. Undefined when more text may bring one. */
function placeToCut(text: string): number | undefined {
  const place = /[\p{L}\p{N}](?= )/gu;
  place.lastIndex = PART - 1;
  const found = place.exec(text.slice(0, 4 * PART));
  if (found) return found.index + found[0].length;
  if (text.length < 4 * PART) return undefined;
  const half = text.charCodeAt(PART) >> 10 === 0x37;
  return half ? PART - 1 : PART;
}

/** A line's end before a line of white space alone, and that line but for its break, which may begin the next gap. */
const GAP = /\r?\n[^\S\n]*(?=\n)/g;

/** Cuts the text of one file, which comes in pieces, into documents. */
export class DocumentSplitter {
  private readonly cutter = new PartCutter();
  private readonly split: DocumentSplit;
  /** Text that can't be given yet: the beginning of a separator, or of a line. */
  private held: string;
  /** Of "blank-lines": whether `held` begins with the line break before a document, which is no part of it. */
  private before = true;

  constructor(split: DocumentSplit) {
    this.split = split;
    // So that a file's first line is after a line break as every other one.
    this.held = split === "blank-lines" ? "\n" : "";
  }

  /** More of the file. */
  *push(text: string): Generator<DocumentPart> {
    if (this.split === "file") {
      yield* this.cutter.text(text);
      return;
    }
    this.held += text;
    if (this.split === "blank-lines") yield* this.blankLines();
    else yield* this.separated(this.split === "lines" ? "\n" : this.split.separator);
  }

  /** The end of the file. */
  *end(): Generator<DocumentPart> {
    if (this.split === "blank-lines") yield* this.line(this.held.replace(/\r?\n[^\S\n]*$/, ""));
    else yield* this.cutter.text(this.split === "lines" ? this.held.replace(/\r$/, "") : this.held);
    this.held = "";
    yield* this.cutter.end();
  }

  private *separated(separator: string): Generator<DocumentPart> {
    let from = 0;
    for (let at = this.held.indexOf(separator); at >= 0; at = this.held.indexOf(separator, from)) {
      const text = this.held.slice(from, at);
      yield* this.cutter.text(this.split === "lines" ? text.replace(/\r$/, "") : text);
      yield* this.cutter.end();
      from = at + separator.length;
    }
    // What may be the beginning of a separator, or the "\r" of a line's end, waits.
    const wait = this.split === "lines" ? 1 : separator.length - 1;
    const sure = Math.max(from, this.held.length - wait);
    yield* this.cutter.text(this.held.slice(from, sure));
    this.held = this.held.slice(sure);
  }

  private *blankLines(): Generator<DocumentPart> {
    let from = 0;
    for (const gap of this.held.matchAll(GAP)) {
      yield* this.line(this.held.slice(from, gap.index));
      yield* this.cutter.end();
      from = gap.index + gap[0].length;
      this.before = true;
    }
    // White space at the end from a line's end on may become a gap.
    const words = Math.max(from, this.held.trimEnd().length);
    const end = this.held.slice(words).search(/[\r\n]/);
    const sure = end < 0 ? this.held.length : words + end;
    yield* this.line(this.held.slice(from, sure));
    this.held = this.held.slice(sure);
  }

  private *line(text: string): Generator<DocumentPart> {
    if (text === "") return;
    yield* this.cutter.text(this.before ? text.slice(1) : text);
    this.before = false;
  }
}
