// Peak memory of loading a model, against the weights as held. node bench/memory.mjs [model.gguf]
import { processor, smollm2, threads, verdict } from "./lib.mjs";

const rss = () => process.resourceUsage().maxRSS * 1024; // the most so far, in bytes
const { LanguageModel, loadTokenizer } = await import("../dist/node.js");
const tokenizer = await loadTokenizer(smollm2); // Node, the library and the tokenizer are not counted
const before = rss();
const model = await LanguageModel.load(smollm2, { device: "wasm", threads });
const peak = rss() - before;
const held = model.device.memory;
console.log(
  `${processor()}\n  weights as held ${(held / 2 ** 20).toFixed(1)} MiB, peak while loading ${(peak / 2 ** 20).toFixed(1)} MiB`,
);
verdict("1.3 × weights / peak (wanted: at least 1)", (1.3 * held) / peak, 1);
console.log(`  tokenizer of ${tokenizer.size ?? "?"} ids loaded before`);
await model.close();
