// A trained head and real hidden states: SmolLM2-135M-Instruct reading WikiText-2's test text, both from ../shared.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { LanguageModel } from "../dist/node.js";
import { root, smollm2, threads } from "./lib.mjs";

/** Tokens that the model reads at once. */
const LENGTH = 1024;

/** @returns the head's weight [V, D] in float32, hidden states [N, D], and the ids that follow in the text, [N] */
export async function trained(N) {
  const model = await LanguageModel.load(smollm2, { device: "wasm", threads });
  const { matrix, vocabSize: V } = model.head.weights;
  const D = matrix.cols;
  const weight = await matrix.gather(Int32Array.from({ length: V }, (_, id) => id));
  const hidden = new Float32Array(N * D);
  const targets = new Int32Array(N);
  const text = readFileSync(join(root, "../shared/data/corpora/wikitext-2/test.txt"), "utf8");
  // A token is some four letters.
  for (let n = 0, at = 0; n < N; n += LENGTH, at += LENGTH * 8) {
    const rows = Math.min(LENGTH, N - n);
    const ids = model.promptIds(text.slice(at, at + LENGTH * 8)).slice(0, rows + 1);
    const read = await model.hidden({ ids: ids.slice(0, rows) });
    hidden.set(read.hidden, n * D);
    targets.set(ids.slice(1), n);
  }
  await model.close();
  return { V, D, weight, hidden, targets };
}
