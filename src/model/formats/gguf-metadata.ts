import { InputError } from "../../errors.js";
import type { GgufNumbers, GgufValue } from "./gguf-header.js";

/** Typed reading of a GGUF file's metadata; every wrong type is an InputError that names the file and the key. */
export class GgufMetadata {
  constructor(
    /** The file, for messages. */
    readonly name: string,
    private readonly values: ReadonlyMap<string, GgufValue>,
  ) {}

  has(key: string): boolean {
    return this.values.has(key);
  }

  /** A number of any of GGUF's number types. Undefined when the key is absent. @throws InputError for another type. */
  number(key: string): number | undefined {
    return this.of(key, "a number", (value) => (typeof value === "number" ? value : undefined));
  }

  /** A whole number of at least 0. @throws InputError for another value. */
  whole(key: string): number | undefined {
    return this.of(key, "a whole number", (value) =>
      typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined,
    );
  }

  /** A truth value; 0 and 1 in an integer type count. */
  flag(key: string): boolean | undefined {
    return this.of(key, "true or false", (value) =>
      typeof value === "boolean" ? value : value === 0 || value === 1 ? value === 1 : undefined,
    );
  }

  text(key: string): string | undefined {
    return this.of(key, "a string", (value) => (typeof value === "string" ? value : undefined));
  }

  texts(key: string): readonly string[] | undefined {
    return this.of(key, "an array of strings", (value) =>
      Array.isArray(value) && value.every((item): item is string => typeof item === "string")
        ? value
        : undefined,
    );
  }

  /** Numbers: an array, or a single number as one (head counts come as either). */
  numbers(key: string): ArrayLike<number> | undefined {
    return this.of(key, "an array of numbers", (value) => {
      if (typeof value === "number") return [value];
      if (ArrayBuffer.isView(value)) return value as GgufNumbers;
      const plain = Array.isArray(value) && value.every((item): item is number => typeof item === "number");
      return plain ? value : undefined;
    });
  }

  private of<T>(key: string, expected: string, read: (value: GgufValue) => T | undefined): T | undefined {
    const value = this.values.get(key);
    if (value === undefined) return undefined;
    const result = read(value);
    if (result !== undefined) return result;
    const got = typeof value === "object" ? "an array" : JSON.stringify(value).slice(0, 60);
    throw new InputError(`${this.name}: metadata key ${key}: expected ${expected}, got ${got}`);
  }
}
