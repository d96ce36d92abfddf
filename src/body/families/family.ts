import type { Checkpoint } from "../../model/formats/checkpoint.js";
import type { ModelSpec } from "../spec.js";
import type { Fields } from "./fields.js";

/** A family of models: how its Hugging Face `config.json` and tensor names map onto specs. */
export interface Family {
  /** `model_type` of its configs. */
  readonly type: string;
  /** `architectures` of its configs: the classes with a language-model head. */
  readonly architecture: string;
  /** @throws InputError when a field is missing, malformed or not supported, or a tensor is missing or misshapen */
  read(config: Fields, checkpoint: Checkpoint): Promise<ModelSpec>;
}
