import { InputError } from "../../errors.js";
import { parseObject } from "../formats/files.js";
import type { GgufValue } from "../formats/gguf-header.js";
import { GgufMetadata } from "../formats/gguf-metadata.js";
import { type AddedToken, checkTokenizer, splitMerge } from "./check.js";
import { endOfGeneration } from "./end-of-generation.js";
import { template, tokenizerFromJson } from "./from-files.js";
import { preTokenizer } from "./pre-tokenizers.js";
import { Tokenizer } from "./tokenizer.js";

type Json = Record<string, unknown>;

/** Kinds of tokens (`tokenizer.ggml.token_type`). */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;

/** Tokens by id; undefined for rows of the matrices that no token has. */
type Pieces = readonly (string | undefined)[];

/** What the two supported kinds of tokenizer differ in. */
interface Kind {
  readonly json: Json;
  readonly bosId: number;
  readonly eosId: number;
  readonly unkId?: number;
  readonly addsBos: boolean;
}

/**
 * The tokenizer in a GGUF file's metadata: byte-level BPE ("gpt2") and SentencePiece by score ("llama").
 * Undefined when the file has none.
 * @throws InputError for another kind, an unknown pre-tokenizer, or lists that do not fit together
 */
export function tokenizerFromGguf(
  name: string,
  metadata: ReadonlyMap<string, GgufValue>,
): Tokenizer | undefined {
  const meta = new GgufMetadata(name, metadata);
  const key = (field: string) => `tokenizer.ggml.${field}`;
  const whole = meta.text("tokenizer.huggingface.json");
  const model = meta.text(key("model"));
  if (model === undefined && whole === undefined) return undefined;
  const spelled = meta.texts(key("tokens"));
  if (whole !== undefined) {
    const id = (field: string) => spelled?.[meta.whole(key(field)) ?? -1];
    const config = { bos_token: id("bos_token_id"), eos_token: id("eos_token_id") };
    return tokenizerFromJson(name, parseObject(`${name}: tokenizer.huggingface.json`, whole), config);
  }
  if (!spelled || spelled.length === 0)
    throw new InputError(`${name}: metadata key ${key("tokens")} is missing`);
  const kinds = meta.numbers(key("token_type"));
  if (kinds && kinds.length !== spelled.length)
    throw new InputError(`${name}: ${spelled.length} tokens, but ${kinds.length} token types`);
  const kindOf = (id: number) => kinds?.[id] ?? NORMAL;
  const tokens = spelled.map((token, id) => (isPadding(token, id, kindOf(id)) ? undefined : token));
  const kind =
    model === "gpt2"
      ? byteLevel(meta, tokens)
      : model === "llama"
        ? sentencePiece(meta, tokens, kindOf)
        : undefined;
  if (!kind)
    throw new InputError(
      `${name}: a tokenizer of the kind "${model}" is not supported yet; supported are gpt2 (byte-level BPE) and llama (SentencePiece)`,
    );
  // A default counts only where that token is a special one: id 11 of most vocabularies is a comma.
  const id = (field: string, or: number): number | undefined => {
    const value = meta.whole(key(field));
    if (value === undefined) return or < tokens.length && (!kinds || kindOf(or) !== NORMAL) ? or : undefined;
    if (value < tokens.length) return value;
    throw new InputError(`${name}: ${key(field)} is ${value}, but there are ${tokens.length} tokens`);
  };
  const givenPadId = meta.whole(key("padding_token_id"));
  // Often a row of the matrix that the list of tokens no longer names.
  const padId = givenPadId !== undefined && tokens[givenPadId] !== undefined ? givenPadId : undefined;
  const bosId = id("bos_token_id", kind.bosId);
  const eosId = id("eos_token_id", kind.eosId);
  const before = (meta.flag(key("add_bos_token")) ?? kind.addsBos) ? bosId : undefined;
  const after = meta.flag(key("add_eos_token")) ? eosId : undefined;
  const named = (id: number | undefined) => {
    const content = tokens[id ?? -1];
    return id === undefined || content === undefined ? undefined : { content, id };
  };
  const json = {
    ...kind.json,
    added_tokens: addedTokens(tokens, kindOf),
    post_processor: template(named(before), named(after)),
  };
  const eosIds = endOfGeneration(meta, spelled, eosId);
  const config = {
    // Any other class would write the post-processor anew.
    tokenizer_class: "PreTrainedTokenizerFast",
    clean_up_tokenization_spaces: false,
    bos_token: named(bosId)?.content,
    eos_token: named(eosId)?.content,
    unk_token: named(kind.unkId)?.content,
    pad_token: named(padId)?.content,
    additional_special_tokens: eosIds.map((id) => tokens[id]),
  };
  return new Tokenizer({
    name,
    checked: checkTokenizer(name, json),
    config: { clean_up_tokenization_spaces: false },
    bosId,
    eosIds,
    unkId: kind.unkId,
    padId,
    alsoSpecial: eosIds,
    files: { json, config },
  });
}

/**
 * Whether llama.cpp's converter made this token for a row that the tokenizer has none for. It calls them [PAD<id>] and
 * unused; until mid-2024 it said user-defined. Other unused tokens (Gemma's <unused0>) are the model's own.
 */
function isPadding(token: string, id: number, kind: number): boolean {
  return token === `[PAD${id}]` && (kind === UNUSED || kind === USER_DEFINED);
}

/** Tokens that are cut out of a text before all else. */
function addedTokens(tokens: Pieces, kindOf: (id: number) => number): AddedToken[] {
  const added: AddedToken[] = [];
  tokens.forEach((content, id) => {
    const kind = kindOf(id);
    if (!content || (kind !== CONTROL && kind !== USER_DEFINED && kind !== UNKNOWN)) return;
    const special = kind !== USER_DEFINED;
    added.push({ id, content, special, normalized: false, single_word: false, lstrip: false, rstrip: false });
  });
  return added;
}

function vocabularyOf(tokens: Pieces): Record<string, number> {
  return Object.fromEntries(tokens.flatMap((token, id) => (token === undefined ? [] : [[token, id]])));
}

function byteLevel(meta: GgufMetadata, tokens: Pieces): Kind {
  const pre = meta.text("tokenizer.ggml.pre") ?? "default";
  const cuts = preTokenizer(pre);
  if (!cuts)
    throw new InputError(
      `${meta.name}: the pre-tokenizer "${pre}" (tokenizer.ggml.pre) is not known, and a wrong guess would give wrong ids; use the model's Hugging Face folder, whose tokenizer.json says how text is cut`,
    );
  const merges = meta.texts("tokenizer.ggml.merges");
  if (!merges) throw new InputError(`${meta.name}: metadata key tokenizer.ggml.merges is missing`);
  // Hugging Face's library wants all fields of it.
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  const splits = cuts.patterns.map((Regex) => ({
    type: "Split",
    pattern: { Regex },
    behavior: "Isolated",
    invert: false,
  }));
  return {
    json: {
      normalizer: null,
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [...splits, byteLevel],
      },
      decoder: byteLevel,
      model: {
        type: "BPE",
        unk_token: null,
        ignore_merges: cuts.ignoreMerges,
        vocab: vocabularyOf(tokens),
        merges: merges.map((merge) => splitMerge(merge) ?? merge),
      },
    },
    bosId: 11,
    eosId: 11,
    addsBos: cuts.addsBos,
  };
}

function sentencePiece(meta: GgufMetadata, tokens: Pieces, kindOf: (id: number) => number): Kind {
  const scores = meta.numbers("tokenizer.ggml.scores");
  if (!scores || scores.length !== tokens.length)
    throw new InputError(`${meta.name}: ${tokens.length} tokens, but ${scores?.length ?? "no"} scores`);
  const prefix = meta.flag("tokenizer.ggml.add_space_prefix") ?? true;
  const vocab = vocabularyOf(tokens);
  const unkId = meta.whole("tokenizer.ggml.unknown_token_id") ?? 0;
  const spaces = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
  return {
    json: {
      normalizer: {
        type: "Sequence",
        normalizers: prefix ? [{ type: "Prepend", prepend: "▁" }, spaces] : [spaces],
      },
      // None: a Metaspace would not prefix a text that begins with a space.
      pre_tokenizer: null,
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: "▁" }, content: " " },
          { type: "ByteFallback" },
          { type: "Fuse" },
          ...(prefix ? [strip] : []),
        ],
      },
      model: {
        type: "BPE",
        unk_token: tokens[unkId] ?? null,
        fuse_unk: true,
        byte_fallback: true,
        vocab,
        merges: mergesByScore(tokens, scores, kindOf),
      },
    },
    bosId: 1,
    eosId: 2,
    unkId,
    addsBos: true,
  };
}

/**
 * SentencePiece merges whatever neighbours make the token of the highest score: as merges, every way to cut a token
 * into two tokens, highest score first.
 */
function mergesByScore(
  tokens: Pieces,
  scores: ArrayLike<number>,
  kindOf: (id: number) => number,
): [string, string][] {
  const known = new Set(tokens);
  const found: { score: number; pair: [string, string] }[] = [];
  tokens.forEach((token, id) => {
    if (token === undefined || (kindOf(id) !== NORMAL && kindOf(id) !== USER_DEFINED)) return;
    let left = "";
    for (const point of token) {
      if (left !== "" && known.has(left)) {
        const right = token.slice(left.length);
        if (known.has(right)) found.push({ score: scores[id], pair: [left, right] });
      }
      left += point;
    }
  });
  // Array.prototype.sort is stable: equal scores stay in the order of their ids.
  return found.sort((a, b) => b.score - a.score).map(({ pair }) => pair);
}
