// Vocabulary size: the same body and text, and tokenizers of 512 to 8192 tokens, trained on that text.
//
// Larger vocabularies read the same text in fewer tokens, so that there are two fair budgets: each reads the text once,
// and each takes as many tokens as the largest vocabulary then needs.
// node experiments/vocabulary-size.mjs --data DIR [--out DIR] [--megabytes 2] [--seeds 0,1,2] [--threads N] [--smoke]
import { runExperiment } from "./lib/experiment.mjs";

await runExperiment({
  name: "vocabulary-size",
  megabytes: 2,
  variantsOf(_, smoke) {
    const sizes = smoke ? [272, 288, 304] : [512, 1024, 2048, 4096, 8192];
    const largest = sizes.at(-1);
    const settings = (vocabSize) => ({ vocabSize, tied: true });
    return [
      ...sizes.map((size) => ({ name: `${size}`, settings: settings(size) })),
      ...sizes.slice(0, -1).map((size) => ({
        name: `${size}, equal tokens`,
        settings: settings(size),
        stepsOf: `${largest}`,
      })),
    ];
  },
});
