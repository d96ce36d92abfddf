import type { Piece } from "../../src/model/types.js";
import { byteTokenizerSize } from "../fixtures/byte-tokenizer.js";

/** The tiny models' end token. */
export const end = byteTokenizerSize - 1;

/** "the cat", a byte a token. */
export const prompt = { ids: [116, 104, 101, 32, 99, 97, 116] };

export async function gather(pieces: AsyncIterable<Piece>): Promise<Piece[]> {
  const all: Piece[] = [];
  for await (const piece of pieces) all.push(piece);
  return all;
}
