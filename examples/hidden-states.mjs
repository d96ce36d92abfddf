// What every layer makes of a prompt: the length of the last position's vector, layer by layer.
import { LanguageModel } from "lmhead";
import { modelPath } from "./_model.mjs";

const model = await LanguageModel.load(modelPath());
const { ids, layers } = await model.hidden("Lily went to the park", { layers: "all" });
for (const [layer, states] of layers) {
  const D = states.length / ids.length;
  const last = states.subarray((ids.length - 1) * D);
  console.log(
    `layer ${layer}: [T=${ids.length}, D=${D}], length of the last row ${Math.hypot(...last).toFixed(3)}`,
  );
}
await model.close();
