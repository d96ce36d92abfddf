import { InputError } from "../../errors.js";

/** Bounds of a whole number in a config, and what stands for it when it is absent. */
export interface WholeOptions {
  readonly min?: number;
  readonly max?: number;
  readonly or?: number;
}

/** No model comes near this in any of its sizes; a larger number is a file that lies. */
const LARGEST = 2 ** 24;

/**
 * Fields of a model's description, `config.json` or a GGUF's metadata, read with their types and bounds checked.
 * An absent field and a null one are the same, unless `nullable` is asked.
 */
export class Fields {
  /**
   * @param what the file, for messages
   * @param get a field's value by name; undefined when absent
   */
  constructor(
    readonly what: string,
    private readonly get: (name: string) => unknown,
  ) {}

  /** Fields of a parsed JSON file. @throws InputError when it is not an object */
  static of(what: string, json: unknown): Fields {
    if (typeof json !== "object" || json === null || Array.isArray(json))
      throw new InputError(`${what}: expected an object, got ${describe(json)}`);
    const map = new Map(Object.entries(json));
    return new Fields(what, (name) => map.get(name));
  }

  has(name: string): boolean {
    return (this.get(name) ?? null) !== null;
  }

  /** Whether the field stands there as null: "off", where absence means the family's default. */
  isNull(name: string): boolean {
    return this.get(name) === null;
  }

  /** Whether the field holds the number 0. */
  isZero(name: string): boolean {
    return this.get(name) === 0 || this.get(name) === 0n;
  }

  /** A whole number from `min` (1) to `max` (2^24); `or` when absent. */
  whole(name: string, { min = 1, max = LARGEST, or }: WholeOptions = {}): number {
    return this.wholeFrom(name, this.get(name), min, max, or);
  }

  /** A finite number above 0; `or` when absent. */
  positive(name: string, or?: number): number {
    const value = this.get(name) ?? or;
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0)
      throw this.bad(name, "a number above 0", value);
    return value;
  }

  flag(name: string, or: boolean): boolean {
    const value = this.get(name) ?? or;
    if (typeof value !== "boolean") throw this.bad(name, "true or false", value);
    return value;
  }

  text(name: string, or?: string): string {
    const value = this.get(name) ?? or;
    if (typeof value !== "string") throw this.bad(name, "a string", value);
    return value;
  }

  /** A list of strings; undefined when absent. */
  texts(name: string): string[] | undefined {
    const value = this.get(name) ?? undefined;
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string"))
      throw this.bad(name, "a list of strings", value);
    return value;
  }

  /** A list of anything; undefined when the field holds something else. */
  list(name: string): readonly unknown[] | undefined {
    const value = this.get(name);
    return Array.isArray(value) ? value : undefined;
  }

  /** The fields of a nested object; undefined when absent. */
  nested(name: string): Fields | undefined {
    const value = this.get(name) ?? undefined;
    return value === undefined ? undefined : Fields.of(`${this.what}: ${name}`, value);
  }

  /** A whole number that a file may also give as a list with one (equal) number a layer, as GGUF does. */
  wholePerLayer(name: string, layers: number, options: WholeOptions = {}): number {
    const value = this.get(name);
    if (value === undefined || value === null || typeof value === "number" || typeof value === "bigint")
      return this.whole(name, options);
    const list =
      ArrayBuffer.isView(value) || Array.isArray(value) ? Array.from(value as ArrayLike<unknown>) : [];
    if (list.length !== layers)
      throw this.bad(name, `a whole number, or one for each of ${layers} layers`, value);
    const { min = 1, max = LARGEST } = options;
    const numbers = list.map((item) => this.wholeFrom(name, item, min, max, undefined));
    if (numbers.some((number) => number !== numbers[0]))
      throw new InputError(
        `${this.what}: ${name} differs between layers (${numbers.join(" ")}): not supported yet`,
      );
    return numbers[0];
  }

  private wholeFrom(name: string, given: unknown, min: number, max: number, or: number | undefined): number {
    const value = given ?? or;
    const number = typeof value === "bigint" ? Number(value) : value;
    if (typeof number !== "number" || !Number.isInteger(number) || number < min || number > max)
      throw this.bad(name, `a whole number from ${min} to ${max}`, value);
    return number;
  }

  /** Says that a field does not hold what was expected. @throws InputError always */
  refuse(name: string, expected: string, got: unknown): never {
    throw this.bad(name, expected, got);
  }

  private bad(name: string, expected: string, got: unknown): InputError {
    return new InputError(`${this.what}: ${name}: expected ${expected}, got ${describe(got)}`);
  }
}

function describe(value: unknown): string {
  if (value === undefined) return "nothing (the field is missing)";
  if (typeof value === "bigint") return String(value);
  const text = JSON.stringify(value) ?? typeof value;
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** n / by. @throws InputError when `by` does not divide `n`. */
export function divided(what: string, n: number, by: number, names: string): number {
  if (n % by !== 0) throw new InputError(`${what}: ${names}: ${n} is not divisible by ${by}`);
  return n / by;
}
