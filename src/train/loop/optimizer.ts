import type { TrainerOptions } from "../trainer/options.js";
import type { FilledSettings } from "./settings.js";

/** A trainer's options, by the settings. */
export function optimizerOf(settings: FilledSettings): TrainerOptions {
  const { optimizer, weightDecay, beta1, beta2, momentum } = settings;
  const { maxNorm, labelSmoothing, zLoss, freeze, dropout, seed, recompute } = settings;
  const adamw = { beta1, beta2, weightDecay };
  const options = {
    adamw: { name: "adamw", ...adamw },
    muon: { name: "muon", momentum, weightDecay, adamw },
    lion: { name: "lion", ...adamw },
    sgd: { name: "sgd", momentum, weightDecay },
  } as const;
  return { optimizer: options[optimizer], maxNorm, labelSmoothing, zLoss, freeze, dropout, seed, recompute };
}
