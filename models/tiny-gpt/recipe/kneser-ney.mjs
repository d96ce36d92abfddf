// The baseline: bits per byte of a 5-gram model over the same BPE tokens, on what prepare.mjs wrote.
// node models/tiny-gpt/recipe/kneser-ney.mjs --data DIR [--vocab 4096 --vocab 8192] [--every 1] [--json FILE]
// --every n scores each n-th validation document only; --json writes the results of the first vocabulary.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { tokenizerFromJson } from "../../../dist/model/tokenizer/from-files.js";
import { trainBpe } from "../../../dist/train/tokenizer/train-bpe.js";
import { bitsLine, readDocuments, sumOf } from "./lib/documents.mjs";
import { trainKneserNey } from "./lib/kneser-ney.mjs";

const END_OF_TEXT = "<|endoftext|>";

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    vocab: { type: "string", multiple: true, default: ["4096"] },
    every: { type: "string", default: "1" },
    json: { type: "string" },
  },
});
if (values.data === undefined)
  throw new Error("kneser-ney: --data: expected the folder that prepare.mjs wrote");

const training = readDocuments(values.data, "train");
const validation = readDocuments(values.data, "validation");
const every = Number(values.every);
const measured = [];
for (const vocab of values.vocab) measured.push(await measure(Number(vocab)));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(measured[0], null, 2)}\n`);
console.log(`at most ${Math.round(process.resourceUsage().maxRSS / 1024)} MB of memory`);

/** Bits per byte: −Σ log₂ p of every token and of each document's end, by the UTF-8 bytes of the texts alone. */
async function measure(vocabSize) {
  const texts = training.flatMap((corpus) => corpus.texts);
  const { json } = await trainBpe(texts, { vocabSize, specialTokens: [END_OF_TEXT] });
  const tokenizer = tokenizerFromJson(`V ${vocabSize}`, json);
  const encode = (text) => Int32Array.from(tokenizer.encode(text, { addSpecialTokens: false }));

  const documents = timed("encoding", () => texts.map(encode));
  const endOfText = json.model.vocab[END_OF_TEXT];
  const model = timed("counting", () => trainKneserNey({ documents, vocabSize, endOfText, order: 5 }));
  const tokens = documents.reduce((sum, { length }) => sum + length, 0);
  console.log(`V ${vocabSize}: trained on ${tokens} tokens of ${documents.length} documents`);
  for (const [i, { ngrams, discounts, usesFallback }] of model.orders.entries())
    console.log(
      `  ${i + 1}-grams ${ngrams}, discounts ${discounts.map((discount) => discount.toFixed(3)).join(" ")}${usesFallback ? " (fallback)" : ""}`,
    );

  const each = validation.map(({ name, texts }) => {
    const scored = texts.filter((_, i) => i % every === 0);
    const { bits, predicted } = model.bits(scored.map(encode), { includeEnd: true });
    const bytes = scored.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
    return { name, bytes, predicted, bits };
  });
  const results = [...each, sumOf(each)];
  for (const result of results) console.log(bitsLine(result));
  return { model: "5-gram, modified Kneser–Ney", vocabSize, tokens, every, results };
}

function timed(what, work) {
  const started = performance.now();
  const result = work();
  console.log(`${what}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return result;
}
