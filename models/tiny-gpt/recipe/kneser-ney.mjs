// The baseline: bits per byte of a 5-gram model over the same BPE tokens, on what prepare.mjs wrote.
// node models/tiny-gpt/recipe/kneser-ney.mjs --data DIR [--vocab 4096 --vocab 8192]
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { tokenizerFromJson } from "../../../dist/model/tokenizer/from-files.js";
import { trainBpe } from "../../../dist/train/tokenizer/train-bpe.js";
import { trainKneserNey } from "./lib/kneser-ney.mjs";

const END_OF_TEXT = "<|endoftext|>";

const { values } = parseArgs({
  options: { data: { type: "string" }, vocab: { type: "string", multiple: true, default: ["4096", "8192"] } },
});
if (values.data === undefined)
  throw new Error("kneser-ney: --data: expected the folder that prepare.mjs wrote");

const training = corporaIn("train");
const validation = corporaIn("validation");
for (const vocab of values.vocab) await measure(Number(vocab));
console.log(`at most ${Math.round(process.resourceUsage().maxRSS / 1024)} MB of memory`);

function corporaIn(part) {
  const files = readdirSync(join(values.data, part)).filter((file) => file.endsWith(".jsonl"));
  return files.sort().map((file) => {
    const lines = readFileSync(join(values.data, part, file), "utf8")
      .trimEnd()
      .split("\n");
    const texts = lines.map((line) => JSON.parse(line).text);
    return { name: file.replace(".jsonl", ""), texts };
  });
}

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

  const all = { name: "all", bytes: 0, predicted: 0, bits: 0 };
  for (const corpus of validation) {
    const { bits, predicted } = model.bits(corpus.texts.map(encode), { includeEnd: true });
    const bytes = corpus.texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
    report({ name: corpus.name, bytes, predicted, bits });
    all.bytes += bytes;
    all.predicted += predicted;
    all.bits += bits;
  }
  report(all);
}

function report({ name, bytes, predicted, bits }) {
  const perToken = (bits / predicted).toFixed(4);
  console.log(
    `  ${name.padEnd(16)} ${(bits / bytes).toFixed(4)} bits per byte  (${bytes} bytes, ${predicted} tokens with ends, ${perToken} bits a token)`,
  );
}

function timed(what, work) {
  const started = performance.now();
  const result = work();
  console.log(`${what}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return result;
}
