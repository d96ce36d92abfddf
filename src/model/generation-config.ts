import type { Fields } from "../body/families/fields.js";
import { InputError } from "../errors.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";
import type { GenerateOptions } from "./types.js";

/** What a model's files say about generating with it. */
export interface GenerationConfig {
  readonly bosId: number | undefined;
  readonly eosIds: readonly number[];
  /**
   * Options that hold where no other is given. A file is greedy unless it says `do_sample`, as in transformers; its
   * temperature and filters stand here all the same, for who asks for a sample.
   */
  readonly defaults: GenerateOptions;
}

/** The largest id that a file may name. */
const LARGEST_ID = 2 ** 31 - 1;

/**
 * Reads `generation_config.json`; ids that it lacks come from `config.json`, and at last from the tokenizer.
 * @throws InputError when a field is malformed
 */
export function readGenerationConfig(
  generation: Fields | undefined,
  config: Fields,
  tokenizer: Pick<Tokenizer, "bosId" | "eosIds"> | undefined,
): GenerationConfig {
  const from = (name: string) => (generation?.has(name) ? generation : config);
  const eosIds = idList(from("eos_token_id"), "eos_token_id");
  return {
    bosId: idList(from("bos_token_id"), "bos_token_id")[0] ?? tokenizer?.bosId,
    eosIds: eosIds.length > 0 ? eosIds : (tokenizer?.eosIds ?? []),
    defaults: generation ? generationDefaults(generation) : {},
  };
}

function generationDefaults(fields: Fields): GenerateOptions {
  const defaults: { -readonly [K in keyof GenerateOptions]: GenerateOptions[K] } = {};
  if (fields.has("max_new_tokens")) defaults.maxNewTokens = fields.whole("max_new_tokens");
  if (fields.has("repetition_penalty")) defaults.repetitionPenalty = fields.positive("repetition_penalty");
  const suppressed = idList(fields, "suppress_tokens");
  if (suppressed.length > 0) defaults.suppressTokens = suppressed;
  const greedy = !fields.flag("do_sample", false);
  defaults.greedy = greedy;
  // Greedy files have a 0 to say so once more: no temperature to sample with.
  const has = (name: string) => fields.has(name) && !(greedy && fields.isZero(name));
  if (has("temperature")) defaults.temperature = fields.positive("temperature");
  if (has("top_k")) defaults.topK = fields.whole("top_k", { min: 0 });
  if (has("top_p")) defaults.topP = share(fields, "top_p");
  if (has("min_p") && !fields.isZero("min_p")) defaults.minP = share(fields, "min_p");
  return defaults;
}

function share(fields: Fields, name: string): number {
  const value = fields.positive(name);
  if (value > 1) fields.refuse(name, "a number above 0 and at most 1", value);
  return value;
}

/** An id, a list of ids, or nothing. */
function idList(fields: Fields, name: string): number[] {
  if (!fields.has(name)) return [];
  const list = fields.list(name) ?? [fields.whole(name, { min: 0, max: LARGEST_ID })];
  for (const id of list)
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > LARGEST_ID)
      throw new InputError(`${fields.what}: ${name}: expected ids, got ${JSON.stringify(list)}`);
  return list as number[];
}
