import { InputError } from "../../errors.js";
import { type AdamWOptions, bindAdamW } from "./adamw.js";
import type { Grouping } from "./groups.js";
import { bindLion, type LionOptions } from "./lion.js";
import { bindMuon, type MuonWithAdamWOptions } from "./muon.js";
import type { Update } from "./optimizer.js";
import type { Parameter } from "./parameter.js";
import { bindSgd, type SgdOptions } from "./sgd.js";

/** An optimizer by name, with its options: those of the class `AdamW`, `Sgd`, `Lion` or `Muon`. */
export type OptimizerOptions =
  | ({ readonly name: "adamw"; readonly groups?: Grouping<AdamWOptions> } & AdamWOptions)
  | ({ readonly name: "sgd"; readonly groups?: Grouping<SgdOptions> } & SgdOptions)
  | ({ readonly name: "lion"; readonly groups?: Grouping<LionOptions> } & LionOptions)
  | ({ readonly name: "muon" } & MuonWithAdamWOptions);

/**
 * What each parameter is updated by, by its name: all that an optimizer knows but for state, of which nothing is allocated.
 * For whoever keeps values and state elsewhere, as on a device.
 * @throws InputError for an unknown name, and as the optimizer's constructor does
 */
export function updatesOf(
  optimizer: OptimizerOptions,
  parameters: readonly Parameter[],
): ReadonlyMap<string, Update> {
  const name = optimizer?.name;
  switch (name) {
    case "adamw":
      return bindAdamW(parameters, unnamed(optimizer));
    case "sgd":
      return bindSgd(parameters, unnamed(optimizer));
    case "lion":
      return bindLion(parameters, unnamed(optimizer));
    case "muon":
      return bindMuon(parameters, unnamed(optimizer));
    default:
      throw new InputError(
        `optimizer: name: expected "adamw", "sgd", "lion" or "muon", got ${JSON.stringify(name)}`,
      );
  }
}

function unnamed<O extends { readonly name: string }>({ name: _, ...options }: O): Omit<O, "name"> {
  return options;
}
