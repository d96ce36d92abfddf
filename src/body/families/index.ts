import { InputError } from "../../errors.js";
import type { Checkpoint } from "../../model/formats/checkpoint.js";
import type { ModelSpec } from "../spec.js";
import type { Family } from "./family.js";
import { Fields } from "./fields.js";
import { gemma2 } from "./gemma2.js";
import { gptNeox } from "./gpt-neox.js";
import { gpt2 } from "./gpt2.js";
import { llama } from "./llama.js";
import { phi } from "./phi.js";
import { qwen2 } from "./qwen2.js";

/** The families that a Hugging Face folder may hold. */
export const families: readonly Family[] = [gpt2, llama, qwen2, gemma2, gptNeox, phi];

/** What a config is called by those who made it, and the family that reads it. */
export interface Detected {
  readonly architecture: string;
  readonly family: Family;
}

/**
 * The family that a config names by `architectures` and `model_type`.
 * @throws InputError naming what it names and listing what is supported
 */
export function detectFamily(config: Fields): Detected {
  const type = config.has("model_type") ? config.text("model_type") : undefined;
  const architecture = config.texts("architectures")?.[0];
  const family = families.find((family) =>
    type === undefined ? family.architecture === architecture : family.type === type,
  );
  const supported = `supported are ${families.map((family) => family.architecture).join(", ")}`;
  if (type === undefined && architecture === undefined)
    throw new InputError(`${config.what}: names no architecture (model_type, architectures); ${supported}`);
  // A class without a language-model head (…ForSequenceClassification) has a body of a known type but no head to ask.
  if (!family || (architecture !== undefined && architecture !== family.architecture))
    throw new InputError(
      `${config.what}: architecture "${architecture ?? type}" is not supported; ${supported}`,
    );
  return { architecture: family.architecture, family };
}

/**
 * A model's spec from its parsed `config.json` and its tensors.
 * @param what the config's file name, for messages
 * @throws InputError
 */
export async function readHuggingFace(
  what: string,
  json: unknown,
  checkpoint: Checkpoint,
): Promise<{ readonly architecture: string; readonly spec: ModelSpec }> {
  const config = Fields.of(what, json);
  const { architecture, family } = detectFamily(config);
  return { architecture, spec: await family.read(config, checkpoint) };
}
