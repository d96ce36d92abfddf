// Writes the documents as DIR/train/NAME.jsonl and DIR/validation/NAME.jsonl, {"text": …} a line.
// node models/tiny-gpt/recipe/prepare.mjs --out DIR [--corpora FOLDER]
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { readCorpora } from "./lib/corpora.mjs";

const { values } = parseArgs({
  options: {
    out: { type: "string" },
    corpora: {
      type: "string",
      default: fileURLToPath(new URL("../../../../shared/data/corpora", import.meta.url)),
    },
  },
});
if (values.out === undefined) throw new Error("prepare: --out: expected the folder to write to");

for (const { name, training, validation, dropped } of readCorpora(values.corpora)) {
  write("train", name, training);
  write("validation", name, validation, `; ${dropped} left out that are in training`);
}

function write(part, name, documents, note = "") {
  mkdirSync(join(values.out, part), { recursive: true });
  const lines = documents.map((text) => `${JSON.stringify({ text })}\n`);
  writeFileSync(join(values.out, part, `${name}.jsonl`), lines.join(""));
  const bytes = documents.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  console.log(`${part}/${name}.jsonl: ${documents.length} documents, ${bytes} bytes of text${note}`);
}
