// Training a byte-level BPE tokenizer on WikiText-2's training text (10.8 MB), checked against what Hugging Face's
// trainer learns from it. node bench/bpe.mjs [text file whose lines are WikiText-2's]
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { trainBpe } from "../dist/train/tokenizer/train-bpe.js";
import { assert, processor, root, verdict } from "./lib.mjs";

const path = process.argv[2] ?? join(root, "../shared/data/corpora/wikitext-2/train.txt");
const lines = readFileSync(path, "utf8").split(/(?<=\n)/);
const { corpora } = JSON.parse(readFileSync(join(root, "test/train/fixtures/bpe.json"), "utf8"));

console.log(`trainBpe on ${path.split("/").slice(-2).join("/")}, median of 5\n${processor()}`);
for (const theirs of corpora.filter(({ file }) => file === "wikitext-2/train.txt")) {
  const times = [];
  for (let round = 0; round < 6; round++) {
    const started = performance.now();
    const { json } = await trainBpe(lines, { vocabSize: theirs.vocabSize });
    if (round > 0) times.push(performance.now() - started);
    const merges = json.model.merges.map((pair) => pair.join(" ")).join("\n");
    const sha256 = createHash("sha256").update(merges).digest("hex");
    assert(sha256 === theirs.mergesSha256, `other merges than Hugging Face's for ${theirs.vocabSize} tokens`);
  }
  times.sort((a, b) => a - b);
  console.log(
    `  ${String(theirs.vocabSize).padStart(6)} tokens ${times[2].toFixed(0).padStart(6)} ms   (${times[0].toFixed(0)} to ${times[4].toFixed(0)})`,
  );
  if (theirs.vocabSize === 8000) verdict("  20 s / the time", 20_000 / times[2], 1);
}
const megabytes = Math.round(process.resourceUsage().maxRSS / 1024);
console.log(`  memory at most ${megabytes} MB`);
