import { InputError } from "../../errors.js";
import type { ByteSource, FileSet } from "./checkpoint.js";

/** Files of any runtime: bytes in memory, Blobs, what a person dropped on a page. Node's files are in node-files.ts. */

/** @throws InputError when [start, end) does not lie in the source. */
export function checkRange(name: string, size: number, start: number, end: number): void {
  if (
    !(Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end && end <= size)
  )
    throw new InputError(
      `${name}: bytes ${start} to ${end} asked of a file of ${size} bytes; is it cut short?`,
    );
}

/** Bytes in memory as a source; reads are views of them. */
export function bytesSource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.byteLength,
    async read(start, end) {
      checkRange(name, bytes.byteLength, start, end);
      return bytes.subarray(start, end);
    },
  };
}

/** A Blob or File as a source; each read touches only the bytes asked for. */
export function blobSource(name: string, blob: Blob): ByteSource {
  return {
    name,
    size: blob.size,
    async read(start, end) {
      checkRange(name, blob.size, start, end);
      return new Uint8Array(await blob.slice(start, end).arrayBuffer());
    },
  };
}

/**
 * Files in memory: text or bytes by relative name.
 * @example memoryFiles("my model", { "config.json": "{…}", "model.safetensors": bytes })
 */
export function memoryFiles(
  name: string,
  files: Readonly<Record<string, Uint8Array | string | Blob>>,
): FileSet {
  const byPath = new Map(Object.entries(files));
  return {
    name,
    async open(path) {
      checkRelative(name, path);
      const file = byPath.get(path);
      if (file === undefined) return undefined;
      const label = `${name}/${path}`;
      if (typeof file === "string") return bytesSource(label, new TextEncoder().encode(file));
      return file instanceof Uint8Array ? bytesSource(label, file) : blobSource(label, file);
    },
    async list() {
      return [...byPath.keys()].sort();
    },
  };
}

/**
 * Files that a person chose or dropped (`<input type=file webkitdirectory>`, a FileList). A folder that all of them
 * share is taken off their names, so that "my-model/config.json" is "config.json".
 */
export function blobFiles(name: string, files: Iterable<File>): FileSet {
  const all = [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  const top = all.length > 0 ? all[0].path.slice(0, all[0].path.indexOf("/") + 1) : "";
  const shared = top !== "" && all.every(({ path }) => path.startsWith(top));
  return memoryFiles(
    name,
    Object.fromEntries(all.map(({ file, path }) => [shared ? path.slice(top.length) : path, file])),
  );
}

/**
 * Refuses names that leave their folder: absolute ones, "..", backslashes, drive letters, NUL.
 * @throws InputError naming the folder and the name.
 */
export function checkRelative(where: string, path: string): void {
  const parts = path.split("/");
  const climbs = parts.some((part) => part === ".." || part === "." || part === "");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a NUL ends a name for the operating system
  if (climbs || /[\\:\u0000]/.test(path))
    throw new InputError(
      `${where}: the file name ${JSON.stringify(path)} leaves the folder; expected a plain relative name`,
    );
}

/** A whole small file as text. @throws InputError when it is larger than `limit` bytes or not UTF-8. */
export async function readText(source: ByteSource, limit = 256 * 2 ** 20): Promise<string> {
  if (source.size > limit)
    throw new InputError(`${source.name}: ${source.size} bytes, expected at most ${limit} for a text file`);
  const bytes = await source.read(0, source.size);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new InputError(`${source.name}: is not UTF-8 text; is it another kind of file, or cut short?`);
  }
}

/** Parses JSON whose top is an object. @throws InputError naming `what`. */
export function parseObject(what: string, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InputError(`${what}: is not valid JSON (${(error as Error).message}); is the file cut short?`);
  }
  if (!isObject(value)) throw new InputError(`${what}: expected a JSON object, got ${kindOf(value)}`);
  return value;
}

/**
 * A JSON object of a file set. Undefined when there is no such file.
 * @throws InputError when it is not a JSON object
 */
export async function readJson(files: FileSet, path: string): Promise<Record<string, unknown> | undefined> {
  const source = await files.open(path);
  if (!source) return undefined;
  try {
    return parseObject(source.name, await readText(source));
  } finally {
    await source.close?.();
  }
}

/** Whether a JSON value is an object (not null, not an array). */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What kind of JSON value this is, for messages. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value) ? "an array" : `${/^[aeiou]/.test(typeof value) ? "an" : "a"} ${typeof value}`;
}
