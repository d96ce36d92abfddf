// The embedded model: import and load. Then from nothing to the first token, against node-llama-cpp. Each in a process of
// its own. node bench/load.mjs [model.gguf]
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { interleave, median, report, smollm2, threads, verdict } from "./lib.mjs";

const who = process.env.LMHEAD_BENCH_CHILD;
if (who) {
  const started = performance.now();
  if (who === "embedded") {
    const { LanguageModel } = await import("../dist/node.js");
    await LanguageModel.load(undefined, { device: "wasm", threads });
  } else if (who === "ours") {
    const { LanguageModel } = await import("../dist/node.js");
    const model = await LanguageModel.load(smollm2, { device: "wasm", threads });
    for await (const _ of model.generate("The cat sat on the", { greedy: true, maxNewTokens: 1 })) break;
  } else {
    const { openLlama } = await import("./llama.mjs");
    const llama = await openLlama(smollm2);
    await llama.greedy(llama.tokenize("The cat sat on the"), 1);
  }
  console.log(performance.now() - started);
  process.exit(0);
}

const embedded = [];
await interleave({ embedded: () => embedded.push(child("embedded")) }, 7, 0);
const warm = embedded.slice(1).sort((a, b) => a - b);
report("the embedded model", { "lmhead: import, load": warm });
verdict("300 ms / import and load (wanted: under 300 ms)", 300 / median(warm), 1);

const taken = { "node-llama-cpp": [], lmhead: [] };
await interleave(
  {
    theirs: () => taken["node-llama-cpp"].push(child("theirs")),
    ours: () => taken.lmhead.push(child("ours")),
  },
  7,
  0,
);
for (const name of Object.keys(taken)) taken[name] = taken[name].slice(1).sort((a, b) => a - b); // the first warmed the files
report("import, load, first token", taken, {
  what: "node-llama-cpp's time / lmhead's (wanted: ours at most twice theirs)",
  ratio: median(taken["node-llama-cpp"]) / median(taken.lmhead),
  atLeast: 0.5,
});

/** Milliseconds that a process took, without the start of Node. */
function child(name) {
  const env = { ...process.env, LMHEAD_BENCH_CHILD: name };
  const out = execFileSync(process.execPath, [fileURLToPath(import.meta.url), smollm2], {
    env,
    encoding: "utf8",
  });
  return Number(out.trim().split("\n").at(-1));
}
