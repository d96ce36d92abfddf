import { InputError } from "../../errors.js";
import { checkPositions, type IdSource, lowerBound } from "./ids.js";
import type { Span } from "./split.js";

/**
 * The spans of a source as one row of tokens. Where the first begins a document, and documents end in an end-of-text
 * id, that id stands before it too.
 */
export class Packing {
  /** Tokens of the row. */
  readonly length: number;
  private readonly source: IdSource;
  private readonly spans: readonly Span[];
  /** 1 with an end-of-text id before the first span, else 0. */
  private readonly lead: number;
  /** Where each span begins in the row; one more at the end. */
  private readonly starts: Float64Array;

  /**
   * @throws InputError for spans that are empty, fall, overlap or leave the source, or that meet the next one inside a
   *   document
   */
  constructor(source: IdSource, spans: readonly Span[]) {
    const { name, length, documents, endOfText } = source;
    const isBorder = (position: number) => documents[lowerBound(documents, position)] === position;
    this.source = source;
    this.spans = spans;
    this.lead = endOfText !== undefined && spans.length > 0 && isBorder(spans[0].start) ? 1 : 0;
    this.starts = new Float64Array(spans.length + 1);
    this.starts[0] = this.lead;
    for (const [i, { start, end }] of spans.entries()) {
      checkPositions(name, length, start, end);
      const before = i > 0 ? spans[i - 1].end : 0;
      const whole = i === 0 || (isBorder(start) && isBorder(before));
      if (start < before || start === end || !whole)
        throw new InputError(
          `${name}: spans: expected rising parts with ids, of whole documents but for the first's beginning and the last's end; got ${start} to ${end} after ${before}`,
        );
      this.starts[i + 1] = this.starts[i] + end - start;
    }
    this.length = this.starts[spans.length];
  }

  /** The tokens of [start, end). */
  async read(start: number, end: number): Promise<Int32Array> {
    const tokens = new Int32Array(end - start);
    if (start < this.lead) tokens[0] = this.source.endOfText!;
    for (const part of this.parts(start, end))
      tokens.set(await this.source.read(part.start, part.end), part.start + part.shift - start);
    return tokens;
  }

  /**
   * Places in [start, end) at which a document begins, rising: the id before its first when that is the end of text,
   * else its first.
   */
  beginnings(start: number, end: number): number[] {
    const { documents, endOfText } = this.source;
    const back = endOfText === undefined ? 0 : 1;
    const found = start < this.lead && end > 0 ? [0] : [];
    for (const { start: from, end: to, shift } of this.parts(start, end))
      for (let i = lowerBound(documents, from + back); documents[i] < to + back; i++)
        found.push(documents[i] - back + shift);
    return found;
  }

  /** The parts of spans that make up [start, end); a position of the source plus `shift` is one of the row. */
  private *parts(start: number, end: number): Generator<Span & { shift: number }> {
    const { starts, spans } = this;
    let i = Math.max(0, lowerBound(starts, start + 1) - 1);
    for (; i < spans.length && starts[i] < end; i++) {
      const shift = starts[i] - spans[i].start;
      const from = Math.max(start, starts[i]) - shift;
      yield { start: from, end: Math.min(end, starts[i + 1]) - shift, shift };
    }
  }
}
