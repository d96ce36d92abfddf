// Tied against untied: a matrix [V, D] that is embedding and head at once, or one for each.
//
// "untied" has the body of "tied", and V·D parameters more. "tied, larger body" spends these on twice as many layers, of
// whatever inner size makes the parameters those of "untied".
// node experiments/tied.mjs --data DIR [--out DIR] [--megabytes 4] [--seeds 0,1,2] [--threads N] [--smoke]
import { runExperiment } from "./lib/experiment.mjs";

await runExperiment({
  name: "tied",
  megabytes: 4,
  variantsOf({ hiddenSize: D, layers, innerSize: F }, smoke) {
    const V = smoke ? 288 : 4096;
    // Parameters of a layer's matrices: four of attention, [D, D], and three of the MLP, [D, F].
    const more = 2 * layers;
    const body = layers * (4 * D + 3 * F) * D + V * D;
    const inner = Math.round((body / (more * D) - 4 * D) / 3);
    return [
      { name: "tied", settings: { vocabSize: V, tied: true } },
      { name: "untied", settings: { vocabSize: V, tied: false } },
      { name: "tied, larger body", settings: { vocabSize: V, tied: true, layers: more, innerSize: inner } },
    ];
  },
});
