import type { GgufEntry } from "./formats/gguf-write.js";

/** Short ways to say a GGUF file's metadata. */

export const u32 = (value: number): GgufEntry => ({ type: "u32", value });
export const f32 = (value: number): GgufEntry => ({ type: "f32", value });
export const flag = (value: boolean): GgufEntry => ({ type: "bool", value });

/** The same entries under "prefix.". */
export function prefixed(
  prefix: string,
  entries: Readonly<Record<string, GgufEntry>>,
): Record<string, GgufEntry> {
  return Object.fromEntries(Object.entries(entries).map(([key, entry]) => [`${prefix}.${key}`, entry]));
}
