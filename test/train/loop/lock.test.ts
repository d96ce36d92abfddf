import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { lockFolder } from "../../../src/train/loop/lock.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "lmhead-lock-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const put = (content: unknown) =>
  writeFileSync(join(folder, "lock"), typeof content === "string" ? content : JSON.stringify(content));

test("a lock names its holder, and is gone after its release", async () => {
  const lock = await lockFolder(folder);
  expect(JSON.parse(readFileSync(join(folder, "lock"), "utf8"))).toEqual({
    pid: process.pid,
    host: hostname(),
  });
  await lock.release();
  expect(readdirSync(folder)).toEqual([]);
});

test("one process holds a folder once", async () => {
  const lock = await lockFolder(folder);
  await expect(lockFolder(folder)).rejects.toThrow(`process ${process.pid}`);
  await lock.release();
  await (await lockFolder(folder)).release();
});

test("a living process is respected, and its lock stays; a dead one's is taken over", async () => {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  await once(child, "spawn");
  put({ pid: child.pid, host: hostname() });
  await expect(lockFolder(folder)).rejects.toThrow(
    new RegExp(`process ${child.pid} on .* trains into it; wait for it, take another folder, or delete`),
  );
  expect(JSON.parse(readFileSync(join(folder, "lock"), "utf8")).pid).toBe(child.pid);
  child.kill("SIGKILL");
  await once(child, "exit");
  await (await lockFolder(folder)).release();
});

test("another machine's is respected", async () => {
  put({ pid: process.pid, host: `${hostname()}-other` });
  await expect(lockFolder(folder)).rejects.toThrow(/-other trains into it/);
});

test("a lock that stays empty holds nobody", async () => {
  put("");
  const lock = await lockFolder(folder);
  expect(JSON.parse(readFileSync(join(folder, "lock"), "utf8")).pid).toBe(process.pid);
  await lock.release();
});

test.each(["{", "null", "3", "{}", '{"pid":"7","host":"x"}', '{"pid":-1,"host":"x"}'])(
  "a file that says %j is nobody's lock, and stays",
  async (content) => {
    put(content);
    await expect(lockFolder(folder)).rejects.toThrow(/lock: is no lock of a run; move it away/);
    expect(readFileSync(join(folder, "lock"), "utf8")).toBe(content);
  },
);

test("a lock is released by its holder alone", async () => {
  const lock = await lockFolder(folder);
  put({ pid: 1, host: `${hostname()}-other` });
  await lock.release();
  expect(JSON.parse(readFileSync(join(folder, "lock"), "utf8")).pid).toBe(1);
});

const built = fileURLToPath(new URL("../../../dist/train/loop/lock.js", import.meta.url));

test.skipIf(!existsSync(built))(
  "of processes that all find a dead one's lock one takes it over",
  async () => {
    const dead = spawn(process.execPath, ["-e", ""]);
    await once(dead, "exit");
    const script = `
    import { lockFolder } from ${JSON.stringify(pathToFileURL(built).href)};
    process.stdin.once("data", async () => {
      console.log(await lockFolder(process.argv[1]).then(() => "won", () => "lost"));
      process.stdin.once("data", () => process.exit());
    });
    console.log("ready");`;
    const children = Array.from({ length: 4 }, () =>
      spawn(process.execPath, ["--input-type=module", "-e", script, folder], {
        stdio: ["pipe", "pipe", "inherit"],
      }),
    );
    const said = async (go: boolean) =>
      Promise.all(
        children.map(async ({ stdin, stdout }) => {
          if (go) stdin.write("go");
          const [line] = await once(stdout, "data");
          return String(line).trim();
        }),
      );
    try {
      await said(false);
      put({ pid: dead.pid, host: hostname() });
      expect((await said(true)).sort()).toEqual(["lost", "lost", "lost", "won"]);
    } finally {
      for (const child of children) child.kill();
    }
  },
);

test("a lock that is about to be written is waited for", async () => {
  put("");
  setTimeout(() => put({ pid: 1, host: `${hostname()}-other` }), 50);
  await expect(lockFolder(folder)).rejects.toThrow(/process 1 on/);
});

test("a lock of this process's number, left from before a restart, is taken over", async () => {
  put({ pid: process.pid, host: hostname() });
  await (await lockFolder(folder)).release();
});

test("of many at once one wins", async () => {
  const all = await Promise.allSettled(Array.from({ length: 20 }, () => lockFolder(folder)));
  const won = all.filter(({ status }) => status === "fulfilled");
  expect(won).toHaveLength(1);
});

test("a folder in its place is left alone, and a lock that can't be written is said", async () => {
  mkdirSync(join(folder, "lock"));
  await expect(lockFolder(folder)).rejects.toThrow(/lock: is no lock of a run/);
  expect(readdirSync(folder)).toEqual(["lock"]);
  await expect(lockFolder(join(folder, "nothing"))).rejects.toThrow(/lock: can't be written \(ENOENT\)/);
});

test.skipIf(process.platform !== "linux")(
  "a lock of a process that ended and was not waited for is taken over",
  async () => {
    // A shell whose child ends while the shell, which does not wait, goes on.
    const shell = spawn("sh", ["-c", "sleep 0.2 & echo $!; exec sleep 30"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    try {
      const [line] = await once(shell.stdout, "data");
      const pid = Number(String(line));
      await vi.waitUntil(() => /\) Z/.test(readFileSync(`/proc/${pid}/stat`, "latin1")));
      put({ pid, host: hostname() });
      const lock = await lockFolder(folder);
      await lock.release();
    } finally {
      shell.kill();
    }
  },
);
