import { isObject } from "../formats/files.js";
import { CHARACTER_OF_BYTE } from "./byte-alphabet.js";

/** The bytes that each token stands for, where a tokenizer's decoder is of a kind that gives each token its own. */
export interface TokenBytes {
  /** Bytes of a token; none for an id without one. */
  bytesOf(id: number): Uint8Array;
  /** Whether one space at the very start of a decoded text is dropped (SentencePiece's dummy prefix). */
  readonly dropsFirstSpace: boolean;
}

type Json = Record<string, unknown>;

const encoder = new TextEncoder();
const NOTHING = new Uint8Array(0);

/**
 * The rule of byte-level BPE (`ByteLevel`), of SentencePiece with byte fallback (`Replace ▁, ByteFallback, Fuse` and
 * perhaps `Strip`) and of `Metaspace`. Undefined for other decoders, whose text of a token depends on its neighbours.
 */
export function tokenBytes(
  decoder: Json | null,
  pieces: readonly (string | undefined)[],
  added: ReadonlySet<number>,
): TokenBytes | undefined {
  const chain =
    decoder?.type === "Sequence" && Array.isArray(decoder.decoders) ? decoder.decoders : [decoder];
  const parts = chain.filter(isObject);
  const types = parts.map((part) => part.type).join(" ");
  const rule = (bytes: (piece: string, id: number) => Uint8Array, dropsFirstSpace: boolean): TokenBytes => ({
    bytesOf: (id) => {
      const piece = pieces[id];
      return piece === undefined ? NOTHING : bytes(piece, id);
    },
    dropsFirstSpace,
  });
  if (types === "ByteLevel")
    return rule((piece, id) => (added.has(id) ? encoder.encode(piece) : byteLevel(piece)), false);
  if (types === "Metaspace") {
    const { replacement = "▁", prepend_scheme: scheme, add_prefix_space: prefix } = parts[0];
    if (typeof replacement !== "string" || replacement === "") return undefined;
    return rule(
      (piece) => encoder.encode(piece.replaceAll(replacement, " ")),
      scheme !== "never" && prefix !== false,
    );
  }
  if (types !== "Replace ByteFallback Fuse" && types !== "Replace ByteFallback Fuse Strip") return undefined;
  const [replace, , , strip] = parts;
  const from = isObject(replace.pattern) ? replace.pattern.String : undefined;
  const to = replace.content;
  if (typeof from !== "string" || from === "" || typeof to !== "string") return undefined;
  const strips = strip !== undefined;
  if (strips && !(strip.content === " " && strip.start === 1 && strip.stop === 0)) return undefined;
  return rule((piece) => byteToken(piece) ?? encoder.encode(piece.replaceAll(from, to)), strips);
}

/** `<0x0A>` is the byte 10. */
function byteToken(piece: string): Uint8Array | undefined {
  return /^<0x[0-9A-Fa-f]{2}>$/.test(piece)
    ? Uint8Array.of(Number.parseInt(piece.slice(3, 5), 16))
    : undefined;
}

const BYTE_OF = new Map(CHARACTER_OF_BYTE.map((character, byte) => [character, byte]));

/** Bytes of a byte-level piece; a piece with other characters than the alphabet's is plain text. */
function byteLevel(piece: string): Uint8Array {
  const bytes = new Uint8Array(piece.length);
  for (let i = 0; i < piece.length; i++) {
    const byte = BYTE_OF.get(piece[i]);
    if (byte === undefined) return encoder.encode(piece);
    bytes[i] = byte;
  }
  return bytes;
}
