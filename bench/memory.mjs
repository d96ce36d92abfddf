// Peak memory of loading a model, against the weights as held. node bench/memory.mjs [model.gguf]
import { processor, smollm2, threads, verdict } from "./lib.mjs";

const { LanguageModel, openDevice } = await import("../dist/node.js");
const device = await openDevice({ device: "wasm", threads });
// Not counted: Node, its workers and the library, which are there already; and V8's heap, in which no weights stand, but
// the tokenizer and what the parsing of its file leaves behind.
const now = () => {
  const { rss, heapTotal } = process.memoryUsage();
  return rss - heapTotal;
};
const before = now();
const first = process.resourceUsage().maxRSS * 1024;
let most = before;
const load = device.matrix.bind(device);
device.matrix = async (...args) => {
  const matrix = await load(...args);
  most = Math.max(most, now());
  return matrix;
};
const model = await LanguageModel.load(smollm2, { device });
const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const held = model.device.memory;
const all = process.resourceUsage().maxRSS * 1024 - first;
console.log(
  `${processor()}\n  weights as held ${mib(held)}, peak while loading ${mib(most - before)}, and with V8's heap ${mib(all)}`,
);
verdict("1.3 × weights / peak (wanted: at least 1)", (1.3 * held) / (most - before), 1);
await model.close();
await device.close();
