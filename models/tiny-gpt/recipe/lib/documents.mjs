// Reads what prepare.mjs wrote.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** The corpora of a part ("train", "validation") as [{ name, texts }], sorted by name. */
export function readDocuments(folder, part) {
  const files = readdirSync(join(folder, part)).filter((file) => file.endsWith(".jsonl"));
  return files.sort().map((file) => {
    const lines = readFileSync(join(folder, part, file), "utf8")
      .trimEnd()
      .split("\n");
    return { name: file.replace(".jsonl", ""), texts: lines.map((line) => JSON.parse(line).text) };
  });
}

/** One line of results: bits per byte, and of what. */
export function bitsLine({ name, bytes, predicted, bits }) {
  const perToken = (bits / predicted).toFixed(4);
  return `  ${name.padEnd(16)} ${(bits / bytes).toFixed(4)} bits per byte  (${bytes} bytes, ${predicted} tokens with ends, ${perToken} bits a token)`;
}

/** Results of several corpora as one. */
export function sumOf(results) {
  const all = { name: "all", bytes: 0, predicted: 0, bits: 0 };
  for (const { bytes, predicted, bits } of results) {
    all.bytes += bytes;
    all.predicted += predicted;
    all.bits += bits;
  }
  return all;
}
