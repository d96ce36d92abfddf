import { readFileSync } from "node:fs";
import { open, readFile, rm } from "node:fs/promises";
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

/** How long a lock may have no holder's name in it, while its writer is about to put it there. */
const UNWRITTEN_MS = 250;

/**
 * Takes a folder for this process. The lock of a process that is dead is taken over, and so is one that stays empty (its
 * writer was killed at once); one of another machine can't be told dead, so it is respected.
 * @param folder an absolute path
 * @throws InputError naming the process that holds it, or when the lock can't be written
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
      await rm(path, { force: true });
      held.delete(folder);
    },
  };
}

async function take(folder: string, path: string): Promise<void> {
  for (let attempt = 0; attempt < 3; attempt++) {
    if (await write(path)) return;
    const holder = await readHolder(path);
    if (holder && isAlive(holder)) throw taken(folder, holder);
    await rm(path, { recursive: true, force: true });
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
    await file.writeFile(JSON.stringify({ pid: process.pid, host: hostname() } satisfies Holder));
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

/** Who holds the lock; nobody when it is gone, or is not readable and stays so. */
async function readHolder(path: string): Promise<Holder | undefined> {
  const read = async () => parseHolder(await readFile(path, "utf8").catch(() => ""));
  const holder = await read();
  if (holder) return holder;
  await wait(UNWRITTEN_MS);
  return read();
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
