import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { InputError } from "../../errors.js";
import { isObject } from "../../model/formats/files.js";
import { safetensorsHeader } from "../../model/formats/safetensors-write.js";
import { asideOf, IDS, isReplaced, movedOf, withoutAside } from "./layout.js";

/** Writing to a run's folder so that what has its final name is whole. */

/** What a written file was, to be found again. */
export interface WrittenFile {
  readonly bytes: number;
  /** In hex. */
  readonly sha256: string;
}

/** A tensor to write; its numbers are asked for when their place has come. */
export interface WrittenTensor {
  readonly name: string;
  readonly shape: readonly number[];
  read(): Promise<Float32Array>;
}

/** Writes a safetensors file of float32 tensors, one after the other, and sees it onto the disk. */
export async function writeSafetensors(
  path: string,
  tensors: readonly WrittenTensor[],
): Promise<WrittenFile> {
  const hash = createHash("sha256");
  let bytes = 0;
  const file = await open(path, "wx");
  try {
    const put = async (part: Uint8Array) => {
      hash.update(part);
      bytes += part.length;
      await writeAll(file, part);
    };
    await put(safetensorsHeader(tensors.map(({ name, shape }) => ({ name, shape, type: "f32" as const }))));
    for (const tensor of tensors) {
      const { buffer, byteOffset, byteLength } = await tensor.read();
      await put(new Uint8Array(buffer, byteOffset, byteLength));
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** Writes text and sees it onto the disk. */
export async function writeText(path: string, text: string): Promise<WrittenFile> {
  const file = await open(path, "wx");
  const bytes = new TextEncoder().encode(text);
  try {
    await writeAll(file, bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at);
    at += bytesWritten;
  }
}

/** Whether a file is, in every byte, what was written. */
export async function isAsWritten(path: string, { bytes, sha256 }: WrittenFile): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  if (found?.size !== bytes) return false;
  const hash = createHash("sha256");
  for await (const part of createReadStream(path)) hash.update(part as Uint8Array);
  return hash.digest("hex") === sha256;
}

/**
 * Makes a folder under another name and gives it its own when it is whole; a folder of that name before is replaced.
 * @throws InputError when the disk is full: what was there before is still there
 */
export async function writeFolder(path: string, fill: (aside: string) => Promise<void>): Promise<void> {
  const aside = asideOf(path);
  const old = movedOf(path);
  try {
    await rm(aside, { recursive: true, force: true });
    await mkdir(aside, { recursive: true });
    await fill(aside);
    await rm(old, { recursive: true, force: true });
    await rename(path, old).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
    await rename(aside, path);
    await rm(old, { recursive: true, force: true });
  } catch (error) {
    await rm(aside, { recursive: true, force: true }).catch(() => {});
    throw diskError(path, error);
  }
}

/** The same for a file. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const aside = asideOf(path);
  try {
    await rm(aside, { force: true });
    await writeText(aside, text);
    await rename(aside, path);
  } catch (error) {
    await rm(aside, { force: true }).catch(() => {});
    throw diskError(path, error);
  }
}

/** What the file system says, for people; other errors as they are. */
export function diskError(path: string, error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (!syscall) return error;
  if (code === "ENOSPC" || code === "EDQUOT")
    return new InputError(
      `${path}: can't be written: the disk is full; make room, then go on with --resume`,
      { cause: error },
    );
  return new InputError(`${path}: can't be written (${code}); take a folder that can be`, { cause: error });
}

/** Removes what a killed process left half written in a run's folder, and puts back what it had moved away. */
export async function tidyFolder(folder: string): Promise<void> {
  const names = await readdir(folder);
  for (const name of names) {
    const own = withoutAside(name);
    if (own === name || !isReplaced(own)) continue;
    if (name === asideOf(own) || names.includes(own))
      await rm(join(folder, name), { recursive: true, force: true });
    else await rename(join(folder, name), join(folder, own));
  }
  const caches = join(folder, IDS);
  for (const name of await readdir(caches).catch(() => []))
    if (name.endsWith(".tmp")) await rm(join(caches, name), { force: true });
}

/** A JSON object from a file; undefined when there is none. @throws InputError when it is damaged */
export async function readObject(path: string): Promise<Record<string, unknown> | undefined> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // said below
  }
  throw new InputError(`${path}: is damaged: expected a JSON object`);
}
