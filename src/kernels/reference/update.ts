import { type MatrixUpdate, overflow, statesOf } from "../optimize.js";
import { adamw } from "./adamw.js";
import { lion } from "./lion.js";
import { plain } from "./matrix.js";
import { muon } from "./muon.js";
import { sgd } from "./sgd.js";

/** One matrix's step, where it stands. @throws InputError when its value or a state has left float32's range */
export function applyUpdate(update: MatrixUpdate): void {
  const { rows, cols } = update.value;
  const [value, gradient] = [plain(update.value), plain(update.gradient)];
  const { factor } = update;
  switch (update.kind) {
    case "adamw":
      adamw(value, gradient, plain(update.m), plain(update.v), update.scalars, factor);
      break;
    case "sgd":
      sgd(value, gradient, update.momentum && plain(update.momentum), update.scalars, factor);
      break;
    case "lion":
      lion(value, gradient, plain(update.m), update.scalars, factor);
      break;
    case "muon":
      muon(value, gradient, plain(update.momentum), [rows, cols], update.scalars, factor);
      break;
  }
  for (const matrix of [update.value, ...statesOf(update)])
    if (plain(matrix).some((x) => !Number.isFinite(x))) throw overflow(update);
}
