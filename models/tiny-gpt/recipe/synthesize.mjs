// Plain sentences, short stories, questions and answers, written by SmolLM2-135M-Instruct. Blocks that are there already
// are not written again, so that it can be stopped at any time. The last ones are kept to validate, without what training
// has word for word.
// node models/tiny-gpt/recipe/synthesize.mjs --out DIR --model SmolLM2-135M-Instruct.Q4_1.gguf [--blocks 16] [--validation 1]
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { LanguageModel } from "../../../dist/node.js";
import { cleaned } from "./lib/cleaned.mjs";
import { promptOf } from "./lib/prompts.mjs";

const BLOCK = 240;

const { values } = parseArgs({
  options: {
    out: { type: "string" },
    model: { type: "string" },
    blocks: { type: "string", default: "16" },
    // The last blocks are kept from training.
    validation: { type: "string", default: "1" },
  },
});
if (values.out === undefined || values.model === undefined)
  throw new Error("synthesize: expected --out, the folder of prepare.mjs, and --model, SmolLM2's file");
const [blocks, held] = [Number(values.blocks), Number(values.validation)];
const aside = join(values.out, "synthetic");
mkdirSync(aside, { recursive: true });
const pathOf = (block) => join(aside, `block-${String(block).padStart(3, "0")}.jsonl`);

let model;
for (let block = 0; block < blocks; block++) {
  if (existsSync(pathOf(block))) continue;
  model ??= await LanguageModel.load(values.model);
  const asked = Array.from({ length: BLOCK }, (_, i) => promptOf(block * BLOCK + i));
  const prompts = asked.map(({ ask }) => `<|im_start|>user\n${ask}<|im_end|>\n<|im_start|>assistant\n`);
  const started = performance.now();
  const lines = new Array(BLOCK);
  let tokens = 0;
  const options = { temperature: 0.7, topP: 1, topK: 0, seed: block, maxNewTokens: 120, batchSize: 64 };
  for await (const { index, text, ids, finishReason } of model.generateMany(prompts, options)) {
    tokens += ids.length;
    const { before = "" } = asked[index];
    const answer = cleaned(text, finishReason === "eos");
    lines[index] = answer === undefined ? "" : `${JSON.stringify({ text: before + answer })}\n`;
  }
  writeFileSync(`${pathOf(block)}.tmp`, lines.join(""));
  renameSync(`${pathOf(block)}.tmp`, pathOf(block));
  const kept = lines.filter((line) => line !== "").length;
  const speed = (tokens / ((performance.now() - started) / 1000)).toFixed(0);
  console.log(`block ${block}: ${kept} of ${BLOCK} texts kept, ${tokens} tokens, ${speed} tokens/s`);
}
await model?.close();

const linesOf = (from, to) =>
  Array.from({ length: to - from }, (_, i) => readFileSync(pathOf(from + i), "utf8")).flatMap((text) =>
    text.split("\n").filter((line) => line !== ""),
  );
const train = linesOf(0, blocks - held);
const known = new Set(train);
const validation = linesOf(blocks - held, blocks).filter((line) => !known.has(line));
for (const [part, lines] of Object.entries({ train, validation })) {
  mkdirSync(join(values.out, part), { recursive: true });
  writeFileSync(join(values.out, part, "synthetic.jsonl"), lines.map((line) => `${line}\n`).join(""));
  console.log(`${part}/synthetic.jsonl: ${lines.length} documents`);
}
