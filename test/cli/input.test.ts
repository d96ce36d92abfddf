import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readText } from "../../src/cli/input.js";
import { InputError } from "../../src/errors.js";

const folder = mkdtempSync(join(tmpdir(), "lmhead-input-"));
afterAll(() => rmSync(folder, { recursive: true }));
const { signal } = new AbortController();

test("a text of 4 MiB is read, a byte more is refused", async () => {
  const path = join(folder, "text");
  const text = "word ".repeat(2 ** 20).slice(0, 4 * 2 ** 20);
  writeFileSync(path, text);
  expect(await readText(path, signal)).toBe(text);
  writeFileSync(path, `${text}.`);
  const longer = readText(path, signal);
  await expect(longer).rejects.toThrow(InputError);
  await expect(longer).rejects.toThrow(/expected at most 4 MiB of text; split it, and score each part/);
});
