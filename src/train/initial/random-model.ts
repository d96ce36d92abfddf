import { readHuggingFace } from "../../body/families/index.js";
import { checkFields, InputError } from "../../errors.js";
import { CONFIG, GENERATION, prettyJson, TOKENIZER, TOKENIZER_CONFIG } from "../../model/formats/folder.js";
import { memoryCheckpoint } from "../../model/formats/memory.js";
import { LanguageModel } from "../../model/language-model.js";
import { placeModel } from "../../model/load.js";
import type { Tokenizer } from "../../model/tokenizer/tokenizer.js";
import type { LoadOptions } from "../../model/types.js";
import { initialModel } from "./initial-model.js";
import type { ModelShape } from "./shape.js";

/** Options of `randomModel`. */
export interface RandomModelOptions extends Pick<LoadOptions, "device" | "threads" | "signal"> {
  /** A whole number in [0, 2^53): the same seed, the same weights. Default 0. */
  readonly seed?: number;
  /** Its ids must be below the shape's vocabSize. Default none: prompts are then ids. */
  readonly tokenizer?: Tokenizer;
}

/**
 * A model of random weights in float32, as `initialModel` draws them, ready for a `Trainer`.
 * @param shape ids of its begin and end tokens come from the tokenizer where the shape has none
 * @throws InputError for unknown options, sizes that do not fit together, a tokenizer with more tokens than rows; AbortError
 * @example
 * const model = await randomModel({ family: "llama", vocabSize: 256, hiddenSize: 64, layers: 2, heads: 2, maxPositions: 64 });
 * const trainer = await Trainer.create(model, { optimizer: { name: "muon" } });
 */
export async function randomModel(
  shape: ModelShape,
  options: RandomModelOptions = {},
): Promise<LanguageModel> {
  checkFields("randomModel", options, ["seed", "tokenizer", "device", "threads", "signal"]);
  const { seed = 0, tokenizer, ...place } = options;
  if (tokenizer && tokenizer.vocabSize > shape.vocabSize)
    throw new InputError(
      `randomModel: the tokenizer has ${tokenizer.vocabSize} tokens, the shape's vocabSize is ${shape.vocabSize}: make it as large`,
    );
  const bosId = shape.bosTokenId ?? tokenizer?.bosId;
  const eosIds = shape.eosTokenId === undefined ? (tokenizer?.eosIds ?? []) : [shape.eosTokenId];
  const { config, tensors } = initialModel(
    {
      ...shape,
      ...(bosId !== undefined && { bosTokenId: bosId }),
      ...(eosIds.length > 0 && { eosTokenId: eosIds[0] }),
    },
    seed,
  );
  const name = "random model";
  const checkpoint = memoryCheckpoint(name, tensors);
  const { architecture, spec } = await readHuggingFace(name, config, checkpoint);
  const generation = { bosId, eosIds, defaults: {} };
  const texts = new Map([[CONFIG, prettyJson(config)]]);
  // A config has room for one end token here, and a tokenizer may have several. Such a file without do_sample is greedy.
  if (eosIds.length > 1)
    texts.set(GENERATION, prettyJson({ bos_token_id: bosId, eos_token_id: eosIds, do_sample: true }));
  if (tokenizer) {
    texts.set(TOKENIZER, prettyJson(tokenizer.files.json));
    texts.set(TOKENIZER_CONFIG, prettyJson(tokenizer.files.config));
  }
  const opened = { name, checkpoint, architecture, spec, generation, tokenizer, texts };
  return new LanguageModel(await placeModel(opened, { ...place, weights: "float32" }));
}
