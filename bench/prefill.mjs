// A prompt of 512 tokens until the next token is known, against node-llama-cpp. node bench/prefill.mjs [model.gguf]
import { LanguageModel } from "../dist/node.js";
import { assert, interleave, median, report, smollm2, threads } from "./lib.mjs";
import { openLlama } from "./llama.mjs";

const ids = Array.from({ length: 512 }, (_, i) => 1000 + ((i * 7919) % 40000));
const model = await LanguageModel.load(smollm2, { device: "wasm", threads });
const llama = await openLlama(smollm2);
const ours = async () => (await (await model.next({ ids })).top(1))[0].id;
const theirs = async () => (await llama.greedy(ids, 1))[0];

// The same prompt in two halves of the same session must give the same token as in one.
const first = await ours();
assert(Number.isInteger(first) && first === (await ours()), "two runs differ");
console.log(`next token: lmhead ${first}, node-llama-cpp ${await theirs()}`);
const times = await interleave({ "node-llama-cpp": theirs, lmhead: ours }, 6, 1);
report("prefill of 512 tokens and the next token", times, {
  what: "node-llama-cpp's time / lmhead's",
  ratio: median(times["node-llama-cpp"]) / median(times.lmhead),
  atLeast: 1.5,
});
await model.close();
process.exit(0);
