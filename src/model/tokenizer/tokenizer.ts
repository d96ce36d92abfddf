import { Tokenizer as Library } from "@huggingface/tokenizers";
import { InputError } from "../../errors.js";
import type { CheckedTokenizer } from "./check.js";
import { Merger } from "./merge.js";
import { withoutPrefix } from "./prefix.js";
import { ByteStream, type TextStream, WindowStream } from "./text-stream.js";
import { type TokenBytes, tokenBytes } from "./token-bytes.js";

/** What a tokenizer is made of; `tokenizerFromFiles` and `tokenizerFromGguf` make it. */
export interface TokenizerParts {
  /** The file it comes from, for messages. */
  readonly name: string;
  readonly checked: CheckedTokenizer;
  /** tokenizer_config.json, as far as the library reads it. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly bosId?: number;
  /** Ids after which generation ends. */
  readonly eosIds: readonly number[];
  readonly unkId?: number;
  readonly padId?: number;
  /** Ids that are special although the tokenizer's own list does not say so. */
  readonly alsoSpecial?: readonly number[];
  readonly files: TokenizerJson;
}

/** What `tokenizer.json` and `tokenizer_config.json` hold. */
export interface TokenizerJson {
  readonly json: Readonly<Record<string, unknown>>;
  readonly config: Readonly<Record<string, unknown>>;
}

export interface EncodeOptions {
  /** Whether what the tokenizer adds to a text (BOS, EOS) is added. Default true. */
  readonly addSpecialTokens?: boolean;
  /** Whether the text goes on after other text, so that no space of the tokenizer's own is put before it. Default false. */
  readonly continues?: boolean;
}

export interface DecodeOptions {
  /** Whether special tokens are left out of the text. Default false. */
  readonly skipSpecialTokens?: boolean;
}

export interface StreamOptions extends DecodeOptions {
  /** Ids that came before, as a prompt's: none of their text is given out, but the space after them is kept. */
  readonly after?: ArrayLike<number>;
}

/**
 * Text to ids and back, by `@huggingface/tokenizers`. Ids are numbers; equal input gives equal ids as Hugging Face's
 * own tokenizers do.
 */
export class Tokenizer {
  readonly name: string;
  /** Largest id plus one. */
  readonly vocabSize: number;
  readonly bosId: number | undefined;
  /** Ids after which generation ends: of a Hugging Face folder its eos token, of a GGUF file its whole set. */
  readonly eosIds: readonly number[];
  readonly unkId: number | undefined;
  readonly padId: number | undefined;
  readonly specialIds: ReadonlySet<number>;
  /** Whether `encode` puts BOS before a text. */
  readonly addsBos: boolean;
  /** The files that it was made of; for one of a GGUF file, files that make an equal one. */
  readonly files: TokenizerJson;
  private readonly library: Library;
  private readonly parts: TokenizerParts;
  /** The library for text that goes on, made when it is first asked for. */
  private continuing: Library | undefined;
  private readonly pieces: readonly (string | undefined)[];
  private readonly bytes: TokenBytes | undefined;
  private readonly cleans: boolean;

  /** @throws InputError when the library can't be built from the parts, or can't encode with them. */
  constructor(parts: TokenizerParts) {
    const { json, pieces } = parts.checked;
    this.parts = parts;
    this.name = parts.name;
    this.pieces = pieces;
    this.vocabSize = pieces.length;
    this.bosId = parts.bosId;
    this.eosIds = parts.eosIds;
    this.unkId = parts.unkId;
    this.padId = parts.padId;
    this.files = parts.files;
    const added = json.added_tokens;
    this.specialIds = new Set([
      ...added.filter(({ special }) => special).map(({ id }) => id),
      ...(parts.alsoSpecial ?? []),
    ]);
    this.bytes = tokenBytes(json.decoder, pieces, new Set(added.map(({ id }) => id)));
    this.cleans = parts.config.clean_up_tokenization_spaces === true;
    this.library = this.guarded(() => buildLibrary(json, parts.config));
    // What is malformed deeper down shows here, at loading, and not at the first prompt.
    const bare = this.encode("a b", { addSpecialTokens: false });
    const whole = this.encode("a b");
    this.addsBos = this.bosId !== undefined && whole[0] === this.bosId && whole.length > bare.length;
  }

  /**
   * The ids of a text. Lone surrogates are read as U+FFFD; an empty text has no ids but those that are added.
   * @throws InputError when the tokenizer has no id for a part of the text
   */
  encode(text: string, { addSpecialTokens = true, continues = false }: EncodeOptions = {}): number[] {
    const whole = text.replace(/\p{Surrogate}/gu, "\uFFFD");
    const { ids, tokens } = this.guarded(() =>
      (continues ? this.continuingLibrary() : this.library).encode(whole, {
        add_special_tokens: addSpecialTokens,
      }),
    );
    for (let i = 0; i < ids.length; i++)
      if (!Number.isInteger(ids[i]))
        throw new InputError(`${this.name}: the vocabulary has no token ${JSON.stringify(tokens[i])}`);
    return ids;
  }

  /**
   * The text of ids. Bytes that are no UTF-8 become U+FFFD.
   * @throws InputError for an id outside [0, vocabSize)
   */
  decode(ids: ArrayLike<number>, { skipSpecialTokens = false }: DecodeOptions = {}): string {
    const all = Array.from(ids);
    for (const id of all) this.check(id);
    const kept = skipSpecialTokens ? all.filter((id) => !this.specialIds.has(id)) : all;
    if (!this.bytes || this.cleans) return this.libraryDecode(kept, this.cleans);
    const stream = new ByteStream(this.bytes);
    let text = "";
    for (const id of kept) text += stream.push(id);
    return text + stream.end();
  }

  /** The tokens as the vocabulary spells them ("▁the", "Ġcat"). */
  tokens(ids: ArrayLike<number>): string[] {
    return Array.from(ids, (id) => this.token(id));
  }

  /** One token as the vocabulary spells it; "" for an id without a token (padding). @throws InputError for no id */
  token(id: number): string {
    if (id >= this.vocabSize && Number.isInteger(id)) return "";
    this.check(id);
    return this.pieces[id] ?? "";
  }

  /** One token's text for people: its spaces kept, bytes that are only a part of a character as U+FFFD. */
  tokenText(id: number): string {
    const bytes = this.bytesOf(id);
    if (bytes) return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    return this.token(id) === "" ? "" : this.libraryDecode([id], false);
  }

  /** The bytes of the text that a token stands for. Undefined when they depend on its neighbours (WordPiece). */
  bytesOf(id: number): Uint8Array | undefined {
    this.token(id);
    return this.bytes?.bytesOf(id);
  }

  /**
   * The bytes of text that each id stands for in its place. Special tokens stand for none, and the first text has none
   * for the space that the tokenizer puts before it. Where bytes depend on neighbours (WordPiece): those of the
   * characters that the id completes.
   */
  textBytes(ids: ArrayLike<number>): number[] {
    const stream = this.bytes ? undefined : this.textStream({ skipSpecialTokens: true });
    const encoder = new TextEncoder();
    let first = true;
    return Array.from(ids, (id) => {
      if (stream) return encoder.encode(stream.push(id)).length;
      const bytes = this.bytesOf(id)!;
      if (this.specialIds.has(id) || bytes.length === 0) return 0;
      const own = first && this.bytes!.dropsFirstSpace && bytes[0] === 0x20 ? 1 : 0;
      first = false;
      return bytes.length - own;
    });
  }

  /** The id of a token as the vocabulary spells it. */
  idOf(token: string): number | undefined {
    const id = this.library.token_to_id(token);
    return Number.isInteger(id) ? id : undefined;
  }

  /** Ids to text as they come; see `TextStream`. Ids without a token (padding) have no text. */
  textStream({ skipSpecialTokens = false, after = [] }: StreamOptions = {}): TextStream {
    const stream = this.bytes
      ? new ByteStream(this.bytes)
      : new WindowStream((ids) =>
          this.libraryDecode(
            ids.filter((id) => this.token(id) !== ""),
            false,
          ),
        );
    const guarded: TextStream = {
      push: (id) => {
        this.token(id);
        return skipSpecialTokens && this.specialIds.has(id) ? "" : stream.push(id);
      },
      end: () => stream.end(),
    };
    for (let i = 0; i < after.length; i++) guarded.push(after[i]);
    return guarded;
  }

  private continuingLibrary(): Library {
    if (!this.continuing) {
      const { checked, config } = this.parts;
      const json = withoutPrefix(checked.json);
      // What trims a text would take its first space too.
      const bare = { ...config, remove_space: false };
      const same = json === checked.json && config.remove_space !== true;
      this.continuing = same ? this.library : buildLibrary(json, bare);
    }
    return this.continuing;
  }

  private check(id: number): void {
    if (!Number.isInteger(id) || id < 0 || id >= this.vocabSize)
      throw new InputError(
        `${this.name}: id ${id} is not in the vocabulary; expected 0 to ${this.vocabSize - 1}`,
      );
  }

  private libraryDecode(ids: readonly number[], cleans: boolean): string {
    if (ids.length === 0) return "";
    return this.guarded(() => this.library.decode([...ids], { clean_up_tokenization_spaces: cleans }));
  }

  /** The library's errors are about the file that it was given. */
  private guarded<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      throw new InputError(`${this.name}: the tokenizer can't be used: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
}

/** The library's tokenizer, merging by `Merger` where that knows the model's rule. */
function buildLibrary(json: CheckedTokenizer["json"], config: TokenizerParts["config"]): Library {
  const model = json.model;
  const ours =
    model.type === "BPE" &&
    !model.end_of_word_suffix &&
    !model.continuing_subword_prefix &&
    !model.continuing_subword_suffix;
  if (!ours) return new Library(json, config);
  // The library need not index merges that it will never look up.
  const library = new Library({ ...json, model: { ...model, merges: [] } }, config);
  const target = library.model as (typeof library.model & { bpe?: (piece: string) => string[] }) | null;
  // A release of the library that no longer merges by this method does its own merging.
  if (!target?.bpe) return new Library(json, config);
  const merger = new Merger(target.tokens_to_ids, model.merges as [string, string][]);
  target.bpe = (piece: string) => merger.merge(piece);
  return library;
}
