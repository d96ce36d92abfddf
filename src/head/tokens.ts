import { InputError } from "../errors.js";

/** Text of tokens, as far as a distribution needs it. */
export interface TokenText {
  encode(text: string): number[];
  tokenText(id: number): string;
}

/** Ids of a token given as id or text. @throws InputError for text without a tokenizer, or empty text */
export function idsOf(token: number | string, text: TokenText | undefined): number[] {
  if (typeof token === "number") return [token];
  if (!text) throw new InputError(`${JSON.stringify(token)}: this model has no tokenizer; give an id`);
  const ids = text.encode(token);
  if (ids.length === 0)
    throw new InputError("the empty text is no token; give text of at least one character, or an id");
  return ids;
}

/** The id of text that must be one token, to have a rank. @throws InputError for text of several */
export function oneId(token: number | string, text: TokenText | undefined): number {
  const ids = idsOf(token, text);
  if (ids.length > 1)
    throw new InputError(
      `${JSON.stringify(token)} is ${ids.length} tokens (${ids.join(", ")}): a rank is of one token`,
    );
  return ids[0];
}

/** A log-probability with its probability. */
export function likelihood(logProb: number): { logProb: number; prob: number } {
  return { logProb, prob: Math.exp(logProb) };
}
