/** What a model does with rows beyond its tokenizer's largest id. */
export interface Padding {
  /** Rows that count: ids are in [0, vocabSize). */
  readonly vocabSize: number;
  /** Rows beyond the tokenizer's largest id. */
  readonly paddedRows: number;
  readonly padding: "masked" | "kept" | "none";
}

/**
 * Rows beyond the tokenizer's largest id are padding: real logits of tokens that no text has. They are masked unless
 * `keep`. Without a tokenizer nobody can say which rows are padding, so there is none. A tokenizer that knows more ids
 * than there are rows is no error by itself (added tokens that a checkpoint never learnt): such an id is refused where
 * it is used.
 * @param rows of the vocabulary matrix
 * @param tokenizerSize largest id of the tokenizer plus one
 */
export function findPadding(rows: number, tokenizerSize: number | undefined, keep: boolean): Padding {
  const paddedRows = Math.max(0, rows - (tokenizerSize ?? rows));
  if (paddedRows === 0) return { vocabSize: rows, paddedRows, padding: "none" };
  return keep
    ? { vocabSize: rows, paddedRows, padding: "kept" }
    : { vocabSize: rows - paddedRows, paddedRows, padding: "masked" };
}

/** A head's bias without the padding's part. */
export function trimBias(bias: Float32Array | undefined, vocabSize: number): Float32Array | undefined {
  return bias && bias.length > vocabSize ? bias.slice(0, vocabSize) : bias;
}
