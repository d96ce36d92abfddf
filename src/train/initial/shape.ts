import { checkFields, InputError } from "../../errors.js";

/** Families that can be made anew, by the `model_type` of their configs. */
export const initialFamilies = ["gpt2", "llama", "qwen2", "gemma2", "gpt_neox", "phi"] as const;
export type InitialFamily = (typeof initialFamilies)[number];

/** The sizes of a new model. Whole numbers, from 1 where nothing else is said. */
export interface ModelShape {
  readonly family: InitialFamily;
  /** Rows of the embedding, at least the tokenizer's ids. */
  readonly vocabSize: number;
  /** Size of the hidden states; divisible by `heads`. */
  readonly hiddenSize: number;
  /** At most 65536. */
  readonly layers: number;
  readonly heads: number;
  /** Heads of keys and values; divides `heads`. Default `heads`. GPT-2 and GPT-NeoX have no such option. */
  readonly kvHeads?: number;
  /**
   * Inner size of the MLP. Default 4 · hiddenSize; for llama and qwen2, whose MLP has three matrices and not two,
   * 8/3 · hiddenSize rounded up to a multiple of 32.
   */
  readonly innerSize?: number;
  readonly maxPositions: number;
  /** Whether the head is the embedding. Default as in transformers: true for gpt2 and gemma2, else false. */
  readonly tied?: boolean;
  /** The id that begins a text, below `vocabSize`, for the config. Default none. */
  readonly bosTokenId?: number;
  /** The id that ends a text, below `vocabSize`, for the config. Default none. */
  readonly eosTokenId?: number;
}

/** A checked shape with its defaults filled in. */
export interface Sizes extends Required<Omit<ModelShape, "bosTokenId" | "eosTokenId">> {
  readonly headDim: number;
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
}

const FIELDS = [
  "family",
  "vocabSize",
  "hiddenSize",
  "layers",
  "heads",
  "kvHeads",
  "innerSize",
  "maxPositions",
  "tied",
  "bosTokenId",
  "eosTokenId",
] as const;

/** The share of a head's columns that rotary positions turn. GPT-2 has learned positions. */
export const rotaryShares: Readonly<Record<InitialFamily, number>> = {
  gpt2: 0,
  llama: 1,
  qwen2: 1,
  gemma2: 1,
  gpt_neox: 0.25,
  phi: 0.5,
};

/** No model comes near this in any of its sizes (as in body/families/fields.ts), nor near this many layers. */
const LARGEST = 2 ** 24;
const MOST_LAYERS = 2 ** 16;

/** @throws InputError for an unknown field or family, a size out of range, or sizes that do not fit together */
export function checkShape(shape: ModelShape): Sizes {
  checkFields("initialModel", shape, FIELDS);
  const { family } = shape;
  if (!initialFamilies.includes(family)) refuse("family", `one of ${initialFamilies.join(", ")}`, family);
  const vocabSize = whole("vocabSize", shape.vocabSize);
  const hiddenSize = whole("hiddenSize", shape.hiddenSize);
  const heads = whole("heads", shape.heads);
  if (hiddenSize % heads !== 0) refuse("heads", `a number that divides hiddenSize ${hiddenSize}`, heads);
  if (shape.kvHeads !== undefined && (family === "gpt2" || family === "gpt_neox"))
    refuse("kvHeads", `nothing: ${family} has as many key heads as query heads`, shape.kvHeads);
  const kvHeads = whole("kvHeads", shape.kvHeads ?? heads);
  if (heads % kvHeads !== 0) refuse("kvHeads", `a number that divides heads ${heads}`, kvHeads);
  const headDim = hiddenSize / heads;
  checkRotary(family, heads, headDim);
  const { tied = family === "gpt2" || family === "gemma2" } = shape;
  if (typeof tied !== "boolean") refuse("tied", "true or false", tied);
  const threeMatrices = family === "llama" || family === "qwen2";
  return {
    family,
    vocabSize,
    hiddenSize,
    layers: whole("layers", shape.layers, MOST_LAYERS),
    heads,
    kvHeads,
    headDim,
    innerSize: whole(
      "innerSize",
      shape.innerSize ?? (threeMatrices ? 32 * Math.ceil(hiddenSize / 12) : 4 * hiddenSize),
    ),
    maxPositions: whole("maxPositions", shape.maxPositions),
    tied,
    bosTokenId: tokenId("bosTokenId", shape.bosTokenId, vocabSize),
    eosTokenId: tokenId("eosTokenId", shape.eosTokenId, vocabSize),
  };
}

/** Rotary positions turn pairs of columns. */
function checkRotary(family: InitialFamily, heads: number, headDim: number): void {
  const share = rotaryShares[family];
  const columns = Math.floor(headDim * share);
  if (share > 0 && (columns < 2 || columns % 2 !== 0))
    refuse(
      "heads",
      `heads of another size than ${headDim} (hiddenSize / heads), such as a multiple of ${2 / share}: ${family}'s rotary positions turn ${columns} of its columns, and need an even number`,
      heads,
    );
}

function whole(name: string, value: number, most = LARGEST): number {
  if (!(Number.isInteger(value) && value >= 1 && value <= most))
    refuse(name, `a whole number from 1 to ${most}`, value);
  return value;
}

function tokenId(name: string, value: number | undefined, vocabSize: number): number | null {
  if (value === undefined) return null;
  if (!(Number.isInteger(value) && value >= 0 && value < vocabSize))
    refuse(name, `a whole number from 0 to ${vocabSize - 1} (vocabSize - 1)`, value);
  return value;
}

function refuse(name: string, expected: string, got: unknown): never {
  const text = typeof got === "number" ? String(got) : (JSON.stringify(got) ?? String(got));
  throw new InputError(`initialModel: ${name}: expected ${expected}, got ${text}`);
}
