import { open, readFile, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { InputError } from "../../errors.js";

/** A run's folder, held against other runs. */
export interface Lock {
  release(): Promise<void>;
}

/**
 * Takes a folder for this process. The lock of a process that is dead is taken over; one of another machine can't be
 * told dead, so it is respected.
 * @throws InputError naming the process that holds it
 */
export async function lockFolder(folder: string): Promise<Lock> {
  const path = join(folder, "lock");
  const mine = JSON.stringify({ pid: process.pid, host: hostname() });
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const file = await open(path, "wx");
      await file.writeFile(mine);
      await file.close();
      return { release: () => rm(path, { force: true }) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const holder = await readHolder(path);
    if (holder === undefined) continue;
    if (isAlive(holder))
      throw new InputError(
        `${folder}: process ${holder.pid} on ${holder.host} trains into it; wait for it, take another folder, or delete ${path} when there is no such process`,
      );
    await rm(path, { force: true });
  }
  throw new InputError(`${folder}: another process is taking it at this moment; take another folder`);
}

interface Holder {
  readonly pid: number;
  readonly host: string;
}

/** Who holds the lock; a lock that is not readable (its writer was killed at once) holds nobody. */
async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const { pid, host } = JSON.parse(await readFile(path, "utf8"));
    return { pid: Number(pid), host: String(host) };
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? undefined : { pid: 0, host: hostname() };
  }
}

function isAlive({ pid, host }: Holder): boolean {
  if (host !== hostname()) return true;
  // The same number after a restart of a container: no other run of ours can be this process.
  if (!(pid > 0) || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
