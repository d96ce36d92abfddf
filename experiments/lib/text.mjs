// The text of an experiment: whole documents of what models/tiny-gpt/recipe/prepare.mjs wrote of WikiText-2.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../dist/errors.js";

export const CORPUS = "wikitext-2";

/**
 * Writes the corpus's first documents, whole ones, until they have `bytes` of text, as a .jsonl file.
 * @param {string} data the folder that prepare.mjs wrote
 * @param {"train" | "validation"} part
 * @param {number} bytes at least so many
 * @param {string} path of the file to write
 * @returns {{ documents: number, bytes: number, sha256: string }} what was taken: bytes of UTF-8 text,
 *   and the hash of its lines
 * @throws InputError when the corpus is not there or has less text
 */
export function takeText(data, part, bytes, path) {
  const from = join(data, part, `${CORPUS}.jsonl`);
  if (!existsSync(from))
    throw new InputError(
      `${from}: is not there; write it by "node models/tiny-gpt/recipe/prepare.mjs --out ${data}", which reads ../shared/data/corpora`,
    );
  const hash = createHash("sha256");
  const taken = { documents: 0, bytes: 0 };
  const lines = readFileSync(from, "utf8").trimEnd().split("\n");
  for (const line of lines) {
    if (taken.bytes >= bytes) break;
    const { text } = JSON.parse(line);
    taken.documents++;
    taken.bytes += Buffer.byteLength(text);
    hash.update(line);
  }
  if (taken.bytes < bytes)
    throw new InputError(
      `${from}: has ${taken.bytes} bytes of text, but ${bytes} are to be read; give fewer --megabytes`,
    );
  writeFileSync(path, `${lines.slice(0, taken.documents).join("\n")}\n`);
  return { ...taken, sha256: hash.digest("hex") };
}
