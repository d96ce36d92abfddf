import { InputError } from "../../errors.js";
import type { FileSet } from "../formats/checkpoint.js";
import { isObject, readJson } from "../formats/files.js";
import { type CheckedTokenizer, checkTokenizer } from "./check.js";
import { Tokenizer } from "./tokenizer.js";

type Json = Record<string, unknown>;

/**
 * The tokenizer of a Hugging Face folder: `tokenizer.json` with, if there, `tokenizer_config.json`.
 * Undefined when there is no tokenizer.json.
 * @throws InputError for a file that is malformed or asks for what is not supported
 */
export async function tokenizerFromFiles(files: FileSet): Promise<Tokenizer | undefined> {
  const json = await readJson(files, "tokenizer.json");
  if (!json) return undefined;
  const config = (await readJson(files, "tokenizer_config.json")) ?? {};
  return tokenizerFromJson(`${files.name}/tokenizer.json`, json, config);
}

/** A tokenizer from the parsed `tokenizer.json` and `tokenizer_config.json`. @throws InputError */
export function tokenizerFromJson(name: string, json: Json, config: Json = {}): Tokenizer {
  const read = checked(name, json);
  const ids = new Map<string, number>();
  read.pieces.forEach((piece, id) => {
    if (piece !== undefined) ids.set(piece, id);
  });
  const named = (field: string): number | undefined => {
    const token = contentOf(config[field]);
    return token === undefined ? undefined : ids.get(token);
  };
  const eos = named("eos_token");
  const extra = Array.isArray(config.additional_special_tokens) ? config.additional_special_tokens : [];
  const special = [
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
  ];
  const alsoSpecial = [...special.map(named), ...extra.map((token) => ids.get(contentOf(token) ?? ""))];
  return new Tokenizer({
    name,
    checked: withConfig(name, read, config, ids),
    // The library reads these as strings only.
    config: {
      clean_up_tokenization_spaces: config.clean_up_tokenization_spaces === true,
      eos_token: contentOf(config.eos_token),
      remove_space: config.remove_space === true,
    },
    bosId: named("bos_token"),
    eosIds: eos === undefined ? [] : [eos],
    unkId: named("unk_token"),
    padId: named("pad_token"),
    alsoSpecial: alsoSpecial.filter((id) => id !== undefined),
    files: { json, config },
  });
}

/** Objects nested a thousand deep are damage too, and the recursion over them says so in its own way. */
function checked(name: string, json: Json): CheckedTokenizer {
  try {
    return checkTokenizer(name, json);
  } catch (error) {
    if (error instanceof RangeError) throw new InputError(`${name}: is nested too deep`);
    throw error;
  }
}

/** A special token in tokenizer_config.json: a string, or an object with its content. */
function contentOf(token: unknown): string | undefined {
  const content = isObject(token) ? token.content : token;
  return typeof content === "string" ? content : undefined;
}

/**
 * Llama's and Gemma's classes write their post-processor anew from `add_bos_token` and `add_eos_token` when a config
 * has them, whatever tokenizer.json says (transformers, `LlamaTokenizerFast.update_post_processor`).
 */
function withConfig(
  name: string,
  read: CheckedTokenizer,
  config: Json,
  ids: Map<string, number>,
): CheckedTokenizer {
  const { add_bos_token: bos, add_eos_token: eos, tokenizer_class: type } = config;
  const rewrites = typeof type === "string" && /^(Llama|CodeLlama|Gemma)Tokenizer(Fast)?$/.test(type);
  if (!rewrites || (typeof bos !== "boolean" && typeof eos !== "boolean")) return read;
  const old = read.json.post_processor;
  if (isObject(old) && old.type !== "TemplateProcessing") return read;
  const token = (field: string): SpecialToken => {
    const content = contentOf(config[field]);
    const id = ids.get(content ?? "");
    if (content !== undefined && id !== undefined) return { content, id };
    throw new InputError(
      `${name}: tokenizer_config.json adds its ${field}, but the vocabulary has none of that name`,
    );
  };
  return {
    ...read,
    json: {
      ...read.json,
      post_processor: template(
        bos === false ? undefined : token("bos_token"),
        eos === true ? token("eos_token") : undefined,
      ),
    },
  };
}

interface SpecialToken {
  readonly content: string;
  readonly id: number;
}

/** A post-processor that puts tokens before and after a text. Null when there are none. */
export function template(before: SpecialToken | undefined, after: SpecialToken | undefined): Json | null {
  const tokens = [before, after].filter((token) => token !== undefined);
  if (tokens.length === 0) return null;
  const special = (token: SpecialToken | undefined) =>
    token ? [{ SpecialToken: { id: token.content, type_id: 0 } }] : [];
  const single = [...special(before), { Sequence: { id: "A", type_id: 0 } }, ...special(after)];
  const named = tokens.map(({ content, id }) => [content, { id: content, ids: [id], tokens: [content] }]);
  return { type: "TemplateProcessing", single, pair: single, special_tokens: Object.fromEntries(named) };
}
