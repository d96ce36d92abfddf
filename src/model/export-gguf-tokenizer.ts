import { Fields } from "../body/families/fields.js";
import { InputError } from "../errors.js";
import { flag, prefixed, u32 } from "./export-gguf-entries.js";
import type { GgufExportInput } from "./export-gguf-input.js";
import type { GgufEntry } from "./formats/gguf-write.js";
import { readGenerationConfig } from "./generation-config.js";
import { CHARACTER_OF_BYTE } from "./tokenizer/byte-alphabet.js";
import { type CheckedTokenizer, checkTokenizer } from "./tokenizer/check.js";
import { tokenizerFromJson } from "./tokenizer/from-files.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";

type Json = Record<string, unknown>;

/** Kinds of tokens (`tokenizer.ggml.token_type`). */
const [NORMAL, CONTROL, USER_DEFINED, UNUSED] = [1, 3, 4, 5];

/**
 * The tokenizer's metadata. llama.cpp wants a token for each row of the vocabulary's matrices: rows that the tokenizer
 * has none for are called [PAD<id>], as its converter does.
 * @throws InputError for what llama.cpp's byte-level BPE can't do, or ids that fit together in no way it knows
 */
export function tokenizerMetadata(
  input: GgufExportInput,
  config: Fields,
  rows: number,
): Record<string, GgufEntry> {
  const what = `${input.name}: tokenizer.json`;
  const { json, config: options } = input.tokenizer;
  const tokenizer = tokenizerFromJson(what, json, options);
  const checked = checkTokenizer(what, json);
  const pre = preTokenizerName(what, json, checked);
  if (checked.pieces.length > rows)
    throw new InputError(
      `${what}: has ids up to ${checked.pieces.length - 1}, but the vocabulary's matrix has ${rows} rows; does it belong to this model?`,
    );
  const added = new Map(checked.json.added_tokens.map((token) => [token.id, token]));
  const tokens = Array.from({ length: rows }, (_, id) => checked.pieces[id] ?? `[PAD${id}]`);
  if (new Set(tokens).size < rows)
    throw new InputError(`${what}: two ids have the same token; llama.cpp wants all to differ`);
  const kinds = tokens.map((_, id) => {
    if (checked.pieces[id] === undefined) return UNUSED;
    const token = added.get(id);
    return token ? (token.special ? CONTROL : USER_DEFINED) : NORMAL;
  });
  const merges = checked.json.model.merges as [string, string][];
  const generation = input.generation && Fields.of(`${input.name}: generation_config.json`, input.generation);
  const ends = readGenerationConfig(generation, config, tokenizer);
  const { before, after } = addedIds(what, tokenizer);
  const eosIds = [...new Set([...(after === undefined ? [] : [after]), ...ends.eosIds])];
  if (eosIds.length > 3)
    throw new InputError(
      `${input.name}: ${eosIds.length} end tokens (${eosIds.join(", ")}): a GGUF file names at most 3`,
    );
  const ids = {
    bos: before ?? ends.bosId,
    eos: eosIds[0],
    eot: eosIds[1],
    eom: eosIds[2],
    unknown: tokenizer.unkId,
    padding: tokenizer.padId,
  };
  const entries: Record<string, GgufEntry> = {
    model: { type: "string", value: "gpt2" },
    pre: { type: "string", value: pre },
    tokens: { type: "array", of: "string", value: tokens },
    token_type: { type: "array", of: "i32", value: kinds },
    merges: { type: "array", of: "string", value: merges.map(([left, right]) => `${left} ${right}`) },
    add_bos_token: flag(before !== undefined),
    add_eos_token: flag(after !== undefined),
  };
  for (const [kind, id] of Object.entries(ids)) {
    if (id === undefined) continue;
    if (id >= rows)
      throw new InputError(`${input.name}: the ${kind} id is ${id}, but the vocabulary has ${rows} rows`);
    entries[`${kind}_token_id`] = u32(id);
  }
  const chat = options?.chat_template;
  return {
    ...prefixed("tokenizer.ggml", entries),
    ...(typeof chat === "string"
      ? { "tokenizer.chat_template": { type: "string", value: chat } as const }
      : {}),
  };
}

/** The ids that the tokenizer puts before and after a text. @throws InputError for more than one on a side */
function addedIds(what: string, tokenizer: Tokenizer): { before?: number; after?: number } {
  const bare = tokenizer.encode("a", { addSpecialTokens: false });
  const whole = tokenizer.encode("a");
  const at = whole.indexOf(bare[0]);
  const after = whole.slice(at + bare.length);
  if (at > 1 || after.length > 1)
    throw new InputError(
      `${what}: puts ids ${whole.slice(0, at)} before a text and ${after} after it; a GGUF file can say one of each`,
    );
  return { before: at === 1 ? whole[0] : undefined, after: after[0] };
}

/**
 * llama.cpp's name for how a byte-level BPE cuts text into words (`tokenizer.ggml.pre`).
 * @throws InputError for what llama.cpp would read in another way
 */
function preTokenizerName(what: string, json: Json, checked: CheckedTokenizer): string {
  const { model, added_tokens: added, decoder } = checked.json;
  const must = (holds: boolean, field: string, expected: string) => {
    if (!holds)
      throw new InputError(
        `${what}: ${field}: expected ${expected}: a GGUF file can't say it; keep the Hugging Face folder`,
      );
  };
  must(model.type === "BPE" && decoder?.type === "ByteLevel", "model", "a byte-level BPE");
  for (const field of ["ignore_merges", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix"])
    must(!model[field], `model.${field}`, "none");
  must(!json.normalizer, "normalizer", "none");
  const vocab = model.vocab as Json;
  must(
    CHARACTER_OF_BYTE.every((character) => Object.hasOwn(vocab, character)),
    "model.vocab",
    "a token for each byte",
  );
  must(
    !Object.keys(vocab).some(
      (token) => token.includes(" ") && !added.some(({ content }) => content === token),
    ),
    "model.vocab",
    "tokens without spaces",
  );
  for (const { content, single_word, lstrip, rstrip } of added)
    must(!(single_word || lstrip || rstrip), `added token ${content}`, "no single_word, lstrip or rstrip");
  const given = json.pre_tokenizer as Json | null | undefined;
  const steps = (Array.isArray(given?.pretokenizers) ? given.pretokenizers : [given]) as Json[];
  const last = steps.at(-1);
  must(
    last?.type === "ByteLevel" && last.add_prefix_space === false && last.use_regex !== false,
    "pre_tokenizer",
    "ByteLevel with GPT-2's words and no prefix space",
  );
  if (steps.length === 1) return "gpt-2";
  const digits = steps.length === 2 && steps[0].type === "Digits" && steps[0].individual_digits === true;
  must(digits, "pre_tokenizer", "ByteLevel alone, or after Digits one by one (SmolLM)");
  return "smollm";
}
