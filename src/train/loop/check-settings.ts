import { InputError } from "../../errors.js";
import { isObject, kindOf } from "../../model/formats/files.js";
import { type PresetName, presets } from "./presets.js";
import {
  common,
  dependents,
  exclusives,
  type FilledSettings,
  rangeOf,
  type Setting,
  type SettingName,
  type TrainSettings,
  table,
} from "./settings.js";

/**
 * Checks settings one by one and against each other.
 * @param what where they come from, for messages
 * @throws InputError naming the setting, what was expected and what came
 */
export function checkSettings(what: string, given: unknown): TrainSettings {
  const settings = checkEach(what, given);
  for (const [a, b] of exclusives)
    if (settings[a] !== undefined && settings[b] !== undefined)
      throw new InputError(`${what}: ${a} and ${b} were both given; expected one of them`);
  for (const { name, of, words } of dependents) {
    const chosen = settings[of] ?? common[of];
    if (settings[name] !== undefined && !words.includes(chosen))
      throw new InputError(
        `${what}: ${name} is for ${of} ${words.join(", ")}, and would do nothing for ${chosen}; leave it out`,
      );
  }
  if (settings.freeze === "body" && settings.init === undefined)
    throw new InputError(`${what}: freeze: a body of random weights is nothing to keep; give init too`);
  return settings;
}

/** Fills in the preset's values and the defaults. @throws InputError as `checkSettings` */
export function fillSettings(what: string, given: unknown): FilledSettings {
  const settings = checkSettings(what, given);
  const preset: PresetName = settings.preset ?? "tiny";
  return { preset, ...common, ...presets[preset], ...settings };
}

/** Settings that were filled in before, and written down. @throws InputError when one is missing or damaged */
export function checkFilled(what: string, given: unknown): FilledSettings {
  const settings = checkEach(what, given);
  for (const name of Object.keys({ preset: "", ...common, ...presets.tiny }))
    if (settings[name as SettingName] === undefined) throw new InputError(`${what}: ${name} is missing`);
  return settings as FilledSettings;
}

function checkEach(what: string, given: unknown): TrainSettings {
  if (!isObject(given)) throw new InputError(`${what}: expected an object of settings, got ${kindOf(given)}`);
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(table, name))
      throw new InputError(
        `${what}: unknown setting "${name}"; the settings are ${Object.keys(table).join(", ")}`,
      );
    checkOne(`${what}: ${name}`, table[name as SettingName], value);
  }
  return given as TrainSettings;
}

function checkOne(what: string, setting: Setting, value: unknown): void {
  const refuse = (expected: string): never => {
    const got =
      typeof value === "string" ? JSON.stringify(value) : Object(value) === value ? kindOf(value) : value;
    throw new InputError(`${what}: expected ${expected}, got ${String(got)}`);
  };
  switch (setting.kind) {
    case "whole":
    case "number": {
      const { min = -Infinity, max = Infinity, above = false } = setting;
      const fits = setting.kind === "whole" ? Number.isSafeInteger(value) : Number.isFinite(value);
      const number = value as number;
      if (!fits || number < min || number > max || (above && number === min))
        refuse(`a ${setting.kind === "whole" ? "whole number" : "number"} ${rangeOf(setting)}`);
      break;
    }
    case "word":
      if (!setting.words.includes(value as string)) refuse(`one of ${setting.words.join(", ")}`);
      break;
    case "flag":
      if (typeof value !== "boolean") refuse("true or false");
      break;
    case "text":
    case "path":
      if (typeof value !== "string" || value === "") refuse("a text");
      break;
    case "texts":
      if (!Array.isArray(value) || !value.every((text) => typeof text === "string"))
        refuse("a list of texts");
  }
}
