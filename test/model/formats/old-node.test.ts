import { type Dirent, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";
import { folderFiles } from "../../../src/model/formats/node-files.js";

/** As in Node 20.0: readdir knows no `recursive`, and an entry knows its name and kind alone. */
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const readdir = async (path: string, options?: { withFileTypes?: boolean }) => {
    if (!options?.withFileTypes) return real.readdir(path);
    const entries = await real.readdir(path, { withFileTypes: true });
    return entries.map((entry: Dirent) => ({ name: entry.name, isDirectory: () => entry.isDirectory() }));
  };
  return { ...real, readdir };
});

const folder = mkdtempSync(join(tmpdir(), "lmhead-old-node-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("a folder's files are listed by Node 20.0 too", async () => {
  mkdirSync(join(folder, "a", "b"), { recursive: true });
  mkdirSync(join(folder, "empty"));
  for (const path of ["config.json", "a/x", "a/b/y"]) writeFileSync(join(folder, path), "");
  expect(await folderFiles(folder).list()).toEqual(["a/b/y", "a/x", "config.json"]);
});
