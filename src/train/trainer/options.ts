import { checkFields, InputError } from "../../errors.js";
import type { Matrix } from "../../kernels/device.js";
import type { LanguageModel } from "../../model/language-model.js";
import type { OptimizerOptions } from "../optimizers/updates.js";
import { type ModelParameter, modelParameters } from "./parameters.js";

/** Options of `Trainer.create`. */
export interface TrainerOptions {
  /** How parameters change. Default AdamW as PyTorch has it. */
  readonly optimizer?: OptimizerOptions;
  /** Gradients are scaled so that their global norm is at most this; above 0. Default Infinity: they are only measured. */
  readonly maxNorm?: number;
  /** As in `crossEntropy`; both change the loss that is reported. Default 0. */
  readonly labelSmoothing?: number;
  readonly zLoss?: number;
  /** "nothing" (default), or "body": embedding and body stay as they are, and the head alone learns. */
  readonly freeze?: "nothing" | "body";
  /**
   * Rate in [0, 1) at which steps drop numbers, after the embedding and of each sublayer's output (`bodyProgram`). Neither
   * `evaluate` nor the model's own answers drop. Default 0.
   */
  readonly dropout?: number;
  /** Of dropout, a whole number in [0, 2^53): what is dropped is a function of it, of the step and of the batch's place in it. Default 0. */
  readonly seed?: number;
  /**
   * Keeps only what enters each layer, and runs the layer again on the way back (gradient checkpointing): the same bits in
   * less memory, for about one more forward. Default false.
   */
  readonly recompute?: boolean;
}

/** Checks options and fills in defaults. @throws InputError for an unknown one or a value out of its range */
export function checkOptions(options: TrainerOptions): Required<Omit<TrainerOptions, "optimizer">> {
  checkFields("Trainer", options, [
    "optimizer",
    "maxNorm",
    "labelSmoothing",
    "zLoss",
    "freeze",
    "dropout",
    "seed",
    "recompute",
  ]);
  const { maxNorm = Infinity, labelSmoothing = 0, zLoss = 0, freeze = "nothing" } = options;
  const { dropout = 0, seed = 0, recompute = false } = options;
  if (!(maxNorm > 0)) throw new InputError(`Trainer: maxNorm: expected a number above 0, got ${maxNorm}`);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new InputError(`Trainer: labelSmoothing: expected a number in [0, 1], got ${labelSmoothing}`);
  if (!(zLoss >= 0 && zLoss < Infinity))
    throw new InputError(`Trainer: zLoss: expected a finite number from 0, got ${zLoss}`);
  if (freeze !== "nothing" && freeze !== "body")
    throw new InputError(`Trainer: freeze: expected nothing or body, got ${JSON.stringify(freeze)}`);
  if (!(dropout >= 0 && dropout < 1))
    throw new InputError(`Trainer: dropout: expected a number from 0 and below 1, got ${dropout}`);
  if (!(Number.isSafeInteger(seed) && seed >= 0))
    throw new InputError(`Trainer: seed: expected a whole number from 0 to 2^53 - 1, got ${seed}`);
  if (typeof recompute !== "boolean")
    throw new InputError(`Trainer: recompute: expected true or false, got ${JSON.stringify(recompute)}`);
  return { maxNorm, labelSmoothing, zLoss, freeze, dropout, seed, recompute };
}

/**
 * The parameters that learn.
 * @throws InputError for matrices that are not float32, or a head to be trained alone that is the embedding
 */
export function trained(model: LanguageModel, freeze: "nothing" | "body"): ModelParameter[] {
  const all = modelParameters(model);
  const bad = all.find(({ value }) => !(value instanceof Float32Array) && value.type !== "f32");
  if (bad)
    throw new InputError(
      `Trainer: ${bad.name} is held as ${(bad.value as Matrix).type}; load the model with weights: "float32"`,
    );
  if (freeze === "nothing") return all;
  const { matrix, bias } = model.head.weights;
  if (matrix === model.embedding.vocab.matrix)
    throw new InputError(
      "Trainer: freeze: the head's matrix is the embedding's too, so it can't learn alone; untie them first",
    );
  return all.filter(({ value }) => value === matrix || value === bias);
}
