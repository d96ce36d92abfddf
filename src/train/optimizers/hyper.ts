import { InputError } from "../../errors.js";

/** Above this a rate or a decay would leave float32's range within a step. */
const LARGEST = 1e30;

/** @throws InputError unless `value` is a number from 0 to 1e30 */
export function checkNonNegative(what: string, name: string, value: number): void {
  checkNumber(what, name, value, value >= 0 && value <= LARGEST, `a number from 0 to ${LARGEST}`);
}

/** @throws InputError unless `value` is a number in [0, 1) */
export function checkDecayRate(what: string, name: string, value: number): void {
  checkNumber(what, name, value, value >= 0 && value < 1, "a number in [0, 1)");
}

/** @throws InputError unless `value` is true or false */
export function checkBoolean(what: string, name: string, value: boolean): void {
  must(typeof value === "boolean", what, name, "true or false", value);
}

/** @throws InputError unless `step` counts from 1 */
export function checkStep(what: string, step: number): void {
  must(Number.isSafeInteger(step) && step >= 1, what, "step", "a whole number from 1", step);
}

/** @throws InputError unless `value` is a number that is `inRange` (which text and null may seem to be) */
export function checkNumber(
  what: string,
  name: string,
  value: number,
  inRange: boolean,
  range: string,
): void {
  must(typeof value === "number" && inRange, what, name, range, value);
}

/** @throws InputError "what: name: expected range, got value" unless `ok` */
export function must(ok: boolean, what: string, name: string, range: string, value: unknown): void {
  if (ok) return;
  const got = typeof value === "string" ? JSON.stringify(value) : String(value);
  throw new InputError(`${what}: ${name}: expected ${range}, got ${got}`);
}
