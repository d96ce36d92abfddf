import type { TokenBytes } from "./token-bytes.js";

/**
 * Ids to text as they come, for generation. What has been given out joined together is the text of all ids; no piece
 * ends inside a character: its first bytes wait for the others.
 */
export interface TextStream {
  /** The text that this id completes; often the id's own, sometimes none yet, sometimes more. */
  push(id: number): string;
  /** What is still held back: an unfinished character, as U+FFFD. The stream is then at its end. */
  end(): string;
}

/** For tokens that have bytes of their own: a decoder of UTF-8 that keeps an unfinished character to itself. */
export class ByteStream implements TextStream {
  private readonly decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  private atStart = true;

  constructor(private readonly rule: TokenBytes) {}

  push(id: number): string {
    return this.first(this.decoder.decode(this.rule.bytesOf(id), { stream: true }));
  }

  end(): string {
    return this.first(this.decoder.decode());
  }

  private first(text: string): string {
    if (!this.atStart || text === "") return text;
    this.atStart = false;
    return this.rule.dropsFirstSpace && text.startsWith(" ") ? text.slice(1) : text;
  }
}

/** Most ids that wait for an end; beyond it an ending U+FFFD is taken for what it says. */
const LONGEST = 16;

/**
 * For decoders in which a token's text depends on its neighbours (WordPiece): decodes the ids since the last
 * given-out text, with those before it for their spaces, and gives out the difference. Bounded work an id.
 */
export class WindowStream implements TextStream {
  /** Ids [0, given) of the window have been given out; they are there for the others' spaces. */
  private window: number[] = [];
  private given = 0;

  constructor(private readonly decode: (ids: readonly number[]) => string) {}

  push(id: number): string {
    this.window.push(id);
    return this.flush(this.window.length - this.given > LONGEST);
  }

  end(): string {
    return this.flush(true);
  }

  private flush(all: boolean): string {
    const before = this.decode(this.window.slice(0, this.given));
    const after = this.decode(this.window);
    if (after.length <= before.length || (after.endsWith("\uFFFD") && !all)) return "";
    this.window = this.window.slice(this.given);
    this.given = this.window.length;
    return after.slice(before.length);
  }
}
