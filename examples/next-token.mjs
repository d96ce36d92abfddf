// What comes next, and how sure is the model?
import { LanguageModel } from "lmhead";
import { modelPath } from "./_model.mjs";

const model = await LanguageModel.load(modelPath());
const next = await model.next("Once upon a");
for (const { token, prob } of await next.top(5))
  console.log(`${(100 * prob).toFixed(2).padStart(6)} %  ${JSON.stringify(token)}`);
console.log("entropy", (await next.entropy()).toFixed(3), "nats");
console.log("one sample by seed:", JSON.stringify(model.decode([await next.sample({ seed: 1 })])));
await model.close();
