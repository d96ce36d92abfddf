// From nothing to the first token, each in a process of its own, against node-llama-cpp. node bench/load.mjs [model.gguf]
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { interleave, median, report, smollm2, threads } from "./lib.mjs";

const who = process.env.LMHEAD_BENCH_CHILD;
if (who) {
  const started = performance.now();
  if (who === "ours") {
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

const taken = { "node-llama-cpp": [], lmhead: [] };
const child = (name) => {
  const env = { ...process.env, LMHEAD_BENCH_CHILD: name };
  const out = execFileSync(process.execPath, [fileURLToPath(import.meta.url), smollm2], {
    env,
    encoding: "utf8",
  });
  return Number(out.trim().split("\n").at(-1));
};
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
