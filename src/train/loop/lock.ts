import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { link, open, readFile, rename, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { InputError } from "../../errors.js";
import { LOCK } from "./layout.js";
import { diskError } from "./run-files.js";

/** A run's folder, held against other runs. */
export interface Lock {
  release(): Promise<void>;
}

/** Folders that this process trains into: a lock of its own number may also be left from before a restart. */
const held = new Set<string>();

/** How long a lock may be empty, while its writer is about to put its name there. */
const UNWRITTEN_MS = 250;

/**
 * Takes a folder for this process. The lock of a process that is dead is taken over, and so is one that stays empty (its
 * writer was killed at once); one of another machine can't be told dead, so it is respected.
 * @param folder an absolute path
 * @throws InputError naming the process that holds it, or when the lock can't be written or is no lock
 */
export async function lockFolder(folder: string): Promise<Lock> {
  const path = join(folder, LOCK);
  if (held.has(folder)) throw taken(folder, { pid: process.pid, host: hostname() });
  held.add(folder);
  try {
    await take(folder, path);
  } catch (error) {
    held.delete(folder);
    throw diskError(path, error);
  }
  return {
    async release() {
      if ((await readFile(path, "utf8").catch(() => "")) === own()) await rm(path, { force: true });
      held.delete(folder);
    },
  };
}

const own = (): string => JSON.stringify({ pid: process.pid, host: hostname() } satisfies Holder);

async function take(folder: string, path: string): Promise<void> {
  for (let attempt = 0; attempt < 3; attempt++) {
    if (await write(path)) return;
    const text = await readLock(path);
    if (text === undefined) continue;
    const holder = parseHolder(text);
    if (holder && isAlive(holder)) throw taken(folder, holder);
    if (!holder && text !== "")
      throw new InputError(`${path}: is no lock of a run; move it away, or take another folder`);
    await remove(path, text);
  }
  throw new InputError(`${folder}: another process is taking it at this moment; take another folder`);
}

/** False when there is a lock. */
async function write(path: string): Promise<boolean> {
  const file = await open(path, "wx").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "EEXIST") return undefined;
    throw error;
  });
  if (!file) return false;
  try {
    await file.writeFile(own());
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  return true;
}

interface Holder {
  readonly pid: number;
  readonly host: string;
}

/** What the lock says; nothing when it stays empty, undefined when it is gone. */
async function readLock(path: string): Promise<string | undefined> {
  const read = () =>
    readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      if (error.code === "EISDIR") return "a folder";
      throw error;
    });
  const text = await read();
  if (text !== "") return text;
  await wait(UNWRITTEN_MS);
  return read();
}

/**
 * Removes a lock that says `text`. Another process may have done so already, and have put its own in the place: it is
 * moved away first, which one alone can do, and put back when it is not the one that was meant.
 */
async function remove(path: string, text: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  if ((await readFile(aside, "utf8")) !== text) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
}

function parseHolder(text: string): Holder | undefined {
  try {
    const { pid, host } = JSON.parse(text);
    return Number.isSafeInteger(pid) && pid > 0 && typeof host === "string" ? { pid, host } : undefined;
  } catch {
    return undefined;
  }
}

function isAlive({ pid, host }: Holder): boolean {
  if (host !== hostname()) return true;
  // The same number after a restart of a container: what this process holds is in `held`.
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return !isZombie(pid);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Whether a process has ended and its parent has not asked how: it answers signals, and writes nothing any more. */
function isZombie(pid: number): boolean {
  try {
    // Linux; the name in brackets may hold anything.
    const state = readFileSync(`/proc/${pid}/stat`, "latin1");
    return /^Z/.test(state.slice(state.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

function taken(folder: string, { pid, host }: Holder): InputError {
  return new InputError(
    `${folder}: process ${pid} on ${host} trains into it; wait for it, take another folder, or delete ${join(folder, LOCK)} when there is no such process`,
  );
}
