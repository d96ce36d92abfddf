// Peak memory of loading a model, against the weights as held. node bench/memory.mjs [model.gguf]
import { processor, smollm2, threads, verdict } from "./lib.mjs";

const rss = () => process.resourceUsage().maxRSS * 1024; // the most so far, in bytes
const { LanguageModel, loadTokenizer, openDevice } = await import("../dist/node.js");
// Node, its workers, the library and the tokenizer are not counted.
const device = await openDevice({ device: "wasm", threads });
const tokenizer = await loadTokenizer(smollm2);
const before = rss();
const model = await LanguageModel.load(smollm2, { device });
const peak = rss() - before;
const held = model.device.memory;
console.log(
  `${processor()}\n  weights as held ${(held / 2 ** 20).toFixed(1)} MiB, peak while loading ${(peak / 2 ** 20).toFixed(1)} MiB`,
);
verdict("1.3 × weights / peak (wanted: at least 1)", (1.3 * held) / peak, 1);
console.log(`  the tokenizer, loaded before: "The cat" is ids ${tokenizer.encode("The cat").join(" ")}`);
await model.close();
await device.close();
