import { isObject } from "../formats/files.js";
import type { CheckedTokenizer } from "./check.js";

type Json = Record<string, unknown>;

/**
 * A tokenizer.json that puts no space of its own before a text (SentencePiece's dummy prefix, `add_prefix_space`), for
 * text that goes on after other text. The same object when it never put one.
 */
export function withoutPrefix(json: CheckedTokenizer["json"]): CheckedTokenizer["json"] {
  const normalizer = bare(json.normalizer);
  const preTokenizer = bare(json.pre_tokenizer);
  if (normalizer === json.normalizer && preTokenizer === json.pre_tokenizer) return json;
  return { ...json, normalizer, pre_tokenizer: preTokenizer };
}

/** A normalizer or pre-tokenizer without its prefix; itself where it has none, null where it is nothing else. */
function bare(part: unknown): unknown {
  if (!isObject(part)) return part;
  const { type, normalizers, pretokenizers, prepend_scheme: scheme, add_prefix_space: adds } = part;
  if (type === "Prepend") return null;
  if (type === "Metaspace") return scheme === "never" ? part : { ...part, prepend_scheme: "never" };
  if (type === "ByteLevel") return adds === true ? { ...part, add_prefix_space: false } : part;
  if (type !== "Sequence") return part;
  const lists: Json = { normalizers, pretokenizers };
  for (const [name, list] of Object.entries(lists)) {
    if (!Array.isArray(list)) continue;
    const parts = list.map(bare).filter((inner) => inner !== null);
    if (parts.length < list.length || parts.some((inner, i) => inner !== list[i]))
      return { ...part, [name]: parts };
  }
  return part;
}
