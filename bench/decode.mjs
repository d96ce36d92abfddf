// Decoding, one token after another, against node-llama-cpp on the same file. node bench/decode.mjs [model.gguf]
import { LanguageModel } from "../dist/node.js";
import { assert, interleave, median, report, smollm2, threads } from "./lib.mjs";
import { openLlama } from "./llama.mjs";

const TOKENS = 48;
const model = await LanguageModel.load(smollm2, { device: "wasm", threads });
const ids = model.encode("The cat sat on the");
const llama = await openLlama(smollm2);

/** Milliseconds for the tokens after the first. */
async function ours(out = []) {
  let started = 0;
  for await (const piece of model.generate(
    { ids },
    { greedy: true, maxNewTokens: TOKENS + 1, ignoreEos: true },
  )) {
    if (out.push(piece.id) === 1) started = performance.now();
  }
  return performance.now() - started;
}
async function theirs(out = []) {
  let started = 0;
  out.push(...(await llama.greedy(ids, TOKENS + 1, () => (started = performance.now()))));
  return performance.now() - started;
}

const [mine, other] = [[], []];
await ours(mine);
await theirs(other);
assert(mine.length === TOKENS + 1, `${mine.length} tokens`);
const agree = mine.findIndex((id, i) => id !== other[i]);
console.log(
  `greedy ids agree ${agree < 0 ? `for all ${mine.length}` : `for the first ${agree} of ${mine.length}`} (llama.cpp rounds activations to int8)`,
);

const taken = { "node-llama-cpp": [], lmhead: [] };
await interleave(
  {
    theirs: async () => taken["node-llama-cpp"].push((await theirs()) / TOKENS),
    ours: async () => taken.lmhead.push((await ours()) / TOKENS),
  },
  8,
  0,
);
for (const list of Object.values(taken)) list.sort((a, b) => a - b);
report(`decoding ${TOKENS} tokens, milliseconds a token`, taken, {
  what: "node-llama-cpp's time / lmhead's",
  ratio: median(taken["node-llama-cpp"]) / median(taken.lmhead),
  atLeast: (await import("node:fs")).readFileSync("/proc/cpuinfo", "utf8").includes("avx512f") ? 1 : 2.5,
});
for (const [name, list] of Object.entries(taken))
  console.log(`  ${name}: ${(1000 / median(list)).toFixed(1)} tokens a second`);
await model.close();
process.exit(0);
