// The rival of whole models: node-llama-cpp on the same file, processor only, on as many threads.
import { rival, threads } from "./lib.mjs";

export async function openLlama(path) {
  const { getLlama } = await rival("node-llama-cpp");
  const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
  const model = await llama.loadModel({ modelPath: path });
  const context = await model.createContext({ contextSize: 1024, threads, batchSize: 512 });
  const sequence = context.getSequence();
  return {
    tokenize: (text) => model.tokenize(text),
    /** Greedy ids after a prompt; `onFirst` is called when the first has come. */
    async greedy(ids, count, onFirst) {
      await sequence.clearHistory();
      const out = [];
      for await (const id of sequence.evaluate(ids, { temperature: 0 })) {
        if (out.push(id) === 1) onFirst?.();
        if (out.length === count) break;
      }
      return out;
    },
  };
}
