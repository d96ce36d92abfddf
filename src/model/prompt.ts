import { InputError } from "../errors.js";
import type { Prompt } from "./types.js";

/** What a prompt is checked against. */
export interface PromptRules {
  /** Undefined when the model has no tokenizer. */
  readonly encode: ((text: string) => number[]) | undefined;
  readonly vocabSize: number;
  /** Most ids; undefined: as many as there are. */
  readonly maxPositions?: number;
}

/**
 * A prompt's ids: of text what the tokenizer makes of it, with what it adds; of ids themselves, nothing added.
 * @throws InputError for an empty prompt, an id outside the vocabulary, more ids than the context has positions, or
 * text for a model without a tokenizer
 */
export function promptIds(prompt: Prompt, rules: PromptRules): number[] {
  const ids = typeof prompt === "string" ? encoded(prompt, rules) : given(prompt);
  const { vocabSize, maxPositions } = rules;
  const bad = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (bad >= 0) {
    const whose = typeof prompt === "string" ? "; the tokenizer has more tokens than the model has rows" : "";
    throw new InputError(
      `id ${ids[bad]} (number ${bad + 1} of the prompt): expected a whole number from 0 to ${vocabSize - 1}, the model's vocabulary${whose}`,
    );
  }
  if (maxPositions !== undefined && ids.length > maxPositions)
    throw new InputError(
      `the prompt has ${ids.length} tokens, but the model's context holds ${maxPositions}; shorten the prompt`,
    );
  return ids;
}

function encoded(text: string, { encode }: PromptRules): number[] {
  if (!encode)
    throw new InputError('the model has no tokenizer: give ids, as { ids: [1, 2, 3] } or --ids "1 2 3"');
  // A tokenizer may make one id (BOS) of nothing; whoever means that says { ids }.
  const ids = text === "" ? [] : encode(text);
  if (ids.length === 0) throw new InputError("the prompt is empty: give at least one token");
  return ids;
}

function given(prompt: Exclude<Prompt, string>): number[] {
  if (typeof prompt !== "object" || prompt === null || typeof prompt.ids?.length !== "number")
    throw new InputError("a prompt: expected text, or ids as { ids: [1, 2, 3] }");
  if (prompt.ids.length === 0) throw new InputError("the prompt is empty: give at least one id");
  return Array.from(prompt.ids);
}
