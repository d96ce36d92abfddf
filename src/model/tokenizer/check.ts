import { InputError } from "../../errors.js";
import { isObject, kindOf } from "../formats/files.js";

/**
 * Checks a parsed `tokenizer.json` before the tokenizer library sees it, and says in the library's words what it would
 * otherwise read in another way than Hugging Face's own tokenizers. Nothing is guessed: what can't be said is an error.
 */

/** A token that is cut out of the text before anything else, as tokenizer.json writes it. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly single_word: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
  readonly special: boolean;
}

type Json = Record<string, unknown>;

/** A tokenizer.json that has passed the checks. */
export interface CheckedTokenizer {
  readonly json: Json & {
    readonly added_tokens: readonly AddedToken[];
    readonly decoder: Json | null;
    /** Of BPE: `vocab` an object of ids, `merges` pairs. */
    readonly model: Json;
  };
  /** Token strings by id; ids without a token are holes. */
  readonly pieces: readonly (string | undefined)[];
}

/** Ids above this are damage: the largest vocabularies hold some 300,000. */
const LARGEST_ID = 2 ** 24 - 1;

/**
 * @param what the file, for messages
 * @throws InputError naming the field
 */
export function checkTokenizer(what: string, given: Json): CheckedTokenizer {
  const model = given.model;
  if (!isObject(model)) throw new InputError(`${what}: model: expected an object, got ${kindOf(model)}`);
  const pieces: (string | undefined)[] = [];
  const checked = checkModel(what, model, pieces);
  const added = checkAdded(what, given.added_tokens ?? []);
  for (const { id, content } of added) pieces[id] = content;
  const part = (field: string): Json | null => {
    const value = given[field] ?? null;
    if (value === null || isObject(value)) return value;
    throw new InputError(`${what}: ${field}: expected an object or null, got ${kindOf(value)}`);
  };
  const normalizer = part("normalizer");
  return {
    pieces,
    json: {
      added_tokens: added,
      normalizer,
      pre_tokenizer: checkPreTokenizer(what, part("pre_tokenizer"), replacesSpaces(normalizer)),
      post_processor: part("post_processor"),
      decoder: part("decoder"),
      model: checked,
    },
  };
}

function checkModel(what: string, model: Json, pieces: (string | undefined)[]): Json {
  const { vocab, merges } = model;
  const type = model.type ?? (merges ? "BPE" : Array.isArray(vocab) ? "Unigram" : "WordPiece");
  if (type === "Unigram") {
    if (!Array.isArray(vocab) || !vocab.every(isScored))
      throw new InputError(`${what}: model.vocab: expected an array of [token, score]`);
    vocab.forEach(([token], id) => {
      pieces[id] = token;
    });
    const unk = model.unk_id ?? null;
    if (unk !== null && !(typeof unk === "number" && vocab[unk] !== undefined))
      throw new InputError(`${what}: model.unk_id is ${String(unk)}, which is not in the vocabulary`);
    return { ...model, type };
  }
  if (type !== "BPE" && type !== "WordPiece")
    throw new InputError(
      `${what}: model.type "${String(type)}" is not supported; supported are BPE, Unigram, WordPiece`,
    );
  if (!isObject(vocab))
    throw new InputError(`${what}: model.vocab: expected an object, got ${kindOf(vocab)}`);
  for (const [token, id] of Object.entries(vocab)) pieces[checkId(what, token, id)] = token;
  if (type === "WordPiece") return { ...model, type };
  return { ...model, type, merges: checkMerges(what, merges, vocab, !model.continuing_subword_prefix) };
}

/** Merges as pairs, which spares the library a split each. */
function checkMerges(what: string, merges: unknown, vocab: Json, whole: boolean): [string, string][] {
  if (!Array.isArray(merges))
    throw new InputError(`${what}: model.merges: expected an array, got ${kindOf(merges)}`);
  const known = new Set(Object.keys(vocab));
  return merges.map((merge: unknown, i) => {
    const pair = typeof merge === "string" ? splitMerge(merge) : merge;
    if (
      !Array.isArray(pair) ||
      pair.length !== 2 ||
      typeof pair[0] !== "string" ||
      typeof pair[1] !== "string"
    )
      throw new InputError(`${what}: model.merges[${i}]: expected "left right" or [left, right]`);
    const [left, right] = pair as [string, string];
    if (whole && !(known.has(left) && known.has(right) && known.has(left + right)))
      throw new InputError(
        `${what}: model.merges[${i}] joins ${JSON.stringify(left)} and ${JSON.stringify(right)}, but the vocabulary lacks one of them or the whole`,
      );
    return [left, right];
  });
}

/** "left right" at the first space that is not the first character. Undefined when there is none. */
export function splitMerge(merge: string): [string, string] | undefined {
  const space = merge.indexOf(" ", 1);
  return space < 0 ? undefined : [merge.slice(0, space), merge.slice(space + 1)];
}

function isScored(item: unknown): item is [string, number] {
  return Array.isArray(item) && typeof item[0] === "string" && typeof item[1] === "number";
}

function checkId(what: string, token: string, id: unknown): number {
  if (typeof id === "number" && Number.isInteger(id) && id >= 0 && id <= LARGEST_ID) return id;
  throw new InputError(
    `${what}: token ${JSON.stringify(token)} has the id ${JSON.stringify(id)}; expected a whole number from 0 to ${LARGEST_ID}`,
  );
}

function checkAdded(what: string, tokens: unknown): AddedToken[] {
  if (!Array.isArray(tokens))
    throw new InputError(`${what}: added_tokens: expected an array, got ${kindOf(tokens)}`);
  return tokens.map((token: unknown, i) => {
    if (!isObject(token) || typeof token.content !== "string" || token.content === "")
      throw new InputError(`${what}: added_tokens[${i}]: expected { "id", "content", … } with a content`);
    const flag = (name: string, or: boolean): boolean => {
      const value = token[name] ?? or;
      if (typeof value === "boolean") return value;
      throw new InputError(
        `${what}: added_tokens[${i}].${name}: expected true or false, got ${kindOf(value)}`,
      );
    };
    const special = flag("special", false);
    return {
      id: checkId(what, token.content, token.id),
      content: token.content,
      single_word: flag("single_word", false),
      lstrip: flag("lstrip", false),
      rstrip: flag("rstrip", false),
      normalized: flag("normalized", !special),
      special,
    };
  });
}

/** Whether a normalizer leaves no space in the text. */
function replacesSpaces(normalizer: Json | null): boolean {
  if (normalizer?.type === "Sequence" && Array.isArray(normalizer.normalizers))
    return normalizer.normalizers.some((part) => isObject(part) && replacesSpaces(part));
  const pattern = normalizer?.type === "Replace" && isObject(normalizer.pattern) ? normalizer.pattern : {};
  return (
    pattern.String === " " && typeof normalizer?.content === "string" && !normalizer.content.includes(" ")
  );
}

/** The library cuts these as if they were "Isolated" or not at all: other ids, silently. */
const UNKNOWN_BEHAVIOURS = ["mergedwithprevious", "mergedwithnext", "contiguous"];

function checkPreTokenizer(what: string, part: Json | null, noSpaces: boolean): Json | null {
  if (part?.type === "Sequence" && Array.isArray(part.pretokenizers)) {
    const parts = part.pretokenizers.map((inner: unknown) => {
      if (!isObject(inner))
        throw new InputError(`${what}: pre_tokenizer: expected objects, got ${kindOf(inner)}`);
      return checkPreTokenizer(what, inner, noSpaces);
    });
    return { ...part, pretokenizers: parts.filter((inner) => inner !== null) };
  }
  if (part?.type === "Split") {
    // Gemma splits at spaces after its normalizer has replaced them all: that cuts nothing.
    if (noSpaces && isObject(part.pattern) && part.pattern.String === " ") return null;
    const behaviour = String(part.behavior).toLowerCase().replaceAll("_", "");
    if (UNKNOWN_BEHAVIOURS.includes(behaviour))
      throw new InputError(
        `${what}: pre_tokenizer Split with behavior "${String(part.behavior)}" is not supported`,
      );
    return { ...part, invert: part.invert ?? false };
  }
  // The older spelling of `prepend_scheme`, which the library does not know.
  if (part?.type === "Metaspace" && part.prepend_scheme === undefined && part.add_prefix_space === false)
    return { ...part, prepend_scheme: "never" };
  return part;
}
