// Loaded into a child process (node --import): at the n-th change to the file system, counted from the first inside
// FAULT_FOLDER, it does what FAULT says. "kill" ends the process as SIGKILL does, before the change or, of a write, in
// its middle; "full" lets that and every later change fail as a full disk does. FAULT_COUNT names a file for the number
// of changes of a run that ends.
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const { FAULT, FAULT_FOLDER: folder, FAULT_COUNT: count } = process.env;
const at = Number(process.env.FAULT_AT ?? Infinity);
const { writeSync, closeSync, openSync, writeFileSync } = fs;
let changes = 0;

function full(path, syscall) {
  const error = new Error(`ENOSPC: no space left on device, ${syscall} '${path}'`);
  return Object.assign(error, { code: "ENOSPC", errno: -28, syscall, path });
}

/** @returns whether this change is to fail */
function isFaulty() {
  changes++;
  if (changes < at || FAULT === undefined) return false;
  if (FAULT === "kill") process.kill(process.pid, "SIGKILL");
  return FAULT === "full";
}

const within = (path) => typeof path === "string" && path.startsWith(folder);
const { open } = fs.promises;
for (const name of ["mkdir", "rename", "rm"]) {
  const original = fs.promises[name];
  fs.promises[name] = async (path, ...rest) => {
    // What frees room works on a full disk.
    if (within(path) && isFaulty() && name === "mkdir") throw full(path, name);
    return original.call(fs.promises, path, ...rest);
  };
}
fs.promises.open = async (path, flags, ...rest) => {
  const writes = within(path) && flags !== undefined && flags !== "r";
  if (writes && isFaulty()) throw full(path, "open");
  const file = await open.call(fs.promises, path, flags, ...rest);
  if (!writes) return file;
  for (const name of ["write", "appendFile", "writeFile", "truncate", "sync"]) {
    const original = file[name];
    file[name] = async (data, ...more) => {
      if (
        FAULT === "kill" &&
        changes + 1 === at &&
        (data instanceof Uint8Array || typeof data === "string")
      ) {
        const bytes = Buffer.from(data);
        const half = openSync(path, flags === "a" ? "a" : "r+");
        writeSync(half, bytes, 0, bytes.length >> 1, flags === "a" ? undefined : (more[3] ?? more[0] ?? 0));
        closeSync(half);
      }
      if (isFaulty() && (name === "write" || name === "appendFile" || name === "writeFile"))
        throw full(path, "write");
      return original.call(file, data, ...more);
    };
  }
  return file;
};
syncBuiltinESMExports();
if (count) process.on("exit", () => writeFileSync(count, String(changes)));
