// Makes of a trained folder what the package carries: tiny-gpt.gguf (matrices in blocks of 8 bits) and its
// generation_config.json. node models/tiny-gpt/recipe/package.mjs --from RUN/best
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openSafetensors } from "../../../dist/model/formats/safetensors.js";
import { exportGguf, fileSource, loadTokenizer } from "../../../dist/node.js";

const { values } = parseArgs({
  options: {
    from: { type: "string" },
    to: { type: "string", default: fileURLToPath(new URL("..", import.meta.url)) },
  },
});
if (values.from === undefined) throw new Error("package: --from: expected a trained model's folder");

const json = (name) => JSON.parse(readFileSync(join(values.from, name), "utf8"));
const checkpoint = await openSafetensors(await fileSource(join(values.from, "model.safetensors")));
const bytes = await exportGguf(
  {
    name: "tiny-gpt",
    config: json("config.json"),
    tokenizer: { json: json("tokenizer.json"), config: json("tokenizer_config.json") },
    checkpoint,
  },
  { type: "q8_0" },
);
await checkpoint.close();
writeFileSync(join(values.to, "tiny-gpt.gguf"), bytes);

// WikiText-2 has "<unk>" where a rare word was: the model knows where it would stand, and must not write it.
const tokenizer = await loadTokenizer(values.from);
const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id);
const suppress = ids.filter(
  (id) => !tokenizer.specialIds.has(id) && /[<>]|^ ?unk$/.test(tokenizer.tokenText(id)),
);
const generation = { do_sample: true, temperature: 0.8, top_p: 0.95, suppress_tokens: suppress };
writeFileSync(join(values.to, "generation_config.json"), `${JSON.stringify(generation, null, 2)}\n`);
console.log(`tiny-gpt.gguf: ${bytes.length} bytes; suppressed tokens: ${suppress.join(", ")}`);
