// Bits per byte of a model on what prepare.mjs kept from training, counted as kneser-ney.mjs counts them: every token of
// a document and its end are predicted, and the bytes are those of the text alone.
// node models/tiny-gpt/recipe/evaluate.mjs --data DIR [--model PATH] [--stride N] [--every 1] [--json FILE]
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { LanguageModel } from "../../../dist/node.js";
import { bitsLine, readDocuments, sumOf } from "./lib/documents.mjs";

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    model: { type: "string" },
    // Tokens by which the window over a long document advances: all but the first are read with at least context - stride
    // tokens before them. Default: a quarter of the context.
    stride: { type: "string" },
    // Takes each n-th document only, for models that are slow here.
    every: { type: "string", default: "1" },
    json: { type: "string" },
  },
});
if (values.data === undefined)
  throw new Error("evaluate: --data: expected the folder that prepare.mjs wrote");
const every = Number(values.every);

const model = await LanguageModel.load(values.model);
const stride = values.stride === undefined ? model.maxPositions >> 2 : Number(values.stride);
const [end] = model.eosIds;
const begin = model.tokenizer.bosId ?? end;
const results = [];
for (const { name, texts } of readDocuments(values.data, "validation")) {
  const result = { name, bytes: 0, predicted: 0, bits: 0 };
  for (const text of texts.filter((_, i) => i % every === 0)) {
    const ids = [begin, ...model.tokenizer.encode(text, { addSpecialTokens: false }), end];
    const { sum, count } = await model.score({ ids }, { stride });
    result.bits -= sum / Math.LN2;
    result.predicted += count;
    result.bytes += Buffer.byteLength(text);
  }
  console.log(bitsLine(result));
  results.push(result);
}
const all = sumOf(results);
console.log(bitsLine(all));
if (values.json !== undefined) {
  const about = { model: model.name, parameters: model.info().parameters, stride, every };
  writeFileSync(values.json, `${JSON.stringify({ ...about, results: [...results, all] }, null, 2)}\n`);
}
await model.close();
