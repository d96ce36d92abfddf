import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { InputError } from "../../errors.js";
import type { ByteSource, FileSet } from "./checkpoint.js";
import { checkRange, checkRelative } from "./files.js";

/** Node's files and folders. The one file of this room that browsers do not load. */

/** What a path leads to: a model's folder, or one file (a GGUF file, a safetensors file). */
export type OpenedPath =
  | { readonly kind: "folder"; readonly files: FileSet }
  | { readonly kind: "file"; readonly source: ByteSource };

/** Bytes of one positional read: Node reads at most 2 GiB in one call. */
const MOST = 2 ** 30;

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

/**
 * A file on disk, read by position through one handle, which `close` gives back. An open handle keeps no process alive.
 * @throws InputError when there is none, or it is no regular file (a pipe would wait for ever), or may not be read.
 */
export async function fileSource(path: string): Promise<ByteSource> {
  let handle: FileHandle;
  let size: number;
  try {
    const found = await stat(path);
    if (!found.isFile())
      throw new InputError(
        `${path}: expected a file, got ${found.isDirectory() ? "a folder" : "a device or pipe"}`,
      );
    size = found.size;
    handle = await open(path, "r");
  } catch (error) {
    if (error instanceof InputError) throw error;
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") throw new InputError(`${path}: no such file`);
    throw new InputError(`${path}: can't be opened (${code})`);
  }
  let closed: Promise<void> | undefined;
  return {
    name: path,
    size,
    async read(start, end, into) {
      if (closed) throw new InputError(`${path}: read after it was closed`);
      checkRange(path, size, start, end);
      const length = end - start;
      const bytes = into && into.length >= length ? into.subarray(0, length) : new Uint8Array(length);
      for (let at = 0; at < bytes.length; ) {
        const { bytesRead } = await handle.read(bytes, at, Math.min(MOST, bytes.length - at), start + at);
        if (bytesRead === 0)
          throw new InputError(
            `${path}: ended at byte ${start + at} of ${size}; did it change while it was read?`,
          );
        at += bytesRead;
      }
      return bytes;
    },
    close() {
      closed ??= handle.close();
      return closed;
    },
  };
}

/** The files of a folder on disk, links within it followed. Nothing is opened until it is asked for. */
export function folderFiles(folder: string): FileSet {
  return {
    name: folder,
    async open(path) {
      checkRelative(folder, path);
      const full = join(folder, ...path.split("/"));
      const found = await stat(full).catch(() => undefined);
      return found ? fileSource(full) : undefined;
    },
    async list() {
      return (await filesUnder(folder)).sort();
    },
  };
}

/**
 * Whatever is in a folder and the folders in it, and is no folder itself: paths from the folder on, with "/" between
 * parts, in no order. Links to folders are not followed. `readdir` alone tells this only from Node 20.12 on.
 * @throws what `readdir` throws
 */
export async function filesUnder(folder: string): Promise<string[]> {
  const files: string[] = [];
  const folders = [""];
  for (let at = folders.pop(); at !== undefined; at = folders.pop())
    for (const entry of await readdir(join(folder, at), { withFileTypes: true }))
      if (entry.isDirectory()) folders.push(`${at}${entry.name}/`);
      else files.push(`${at}${entry.name}`);
  return files;
}

/**
 * Opens what a user named: a folder with a `config.json` or .gguf files, or a file.
 * @throws InputError when there is nothing, or a folder with neither (the message says what may have been meant).
 */
export async function openPath(path: string): Promise<OpenedPath> {
  const found = await stat(path).catch((error: unknown) => {
    const code = codeOf(error);
    const why =
      code === "ENOENT" || code === "ENOTDIR" ? "no such file or folder" : `can't be read (${code})`;
    throw new InputError(`${path}: ${why}; expected a Hugging Face folder or a .gguf file`);
  });
  if (!found.isDirectory()) return { kind: "file", source: await fileSource(path) };
  const names = await readdir(path).catch((error: unknown) => {
    throw new InputError(`${path}: can't be listed (${codeOf(error)})`);
  });
  if (names.some((name) => name === "config.json" || name.endsWith(".gguf")))
    return { kind: "folder", files: folderFiles(path) };
  // A run's folder (`lmhead train --out`) holds its best model.
  const hint = names.includes("train.json") ? `; did you mean ${join(path, "best")}?` : "";
  throw new InputError(
    `${path}: the folder has no config.json and no .gguf file, so it is no model's${hint}`,
  );
}
