// Text, piece by piece, with the model's own log-probability of each token. The same seed gives the same text.
import { LanguageModel } from "lmhead";
import { modelPath } from "./_model.mjs";

const model = await LanguageModel.load(modelPath());
let sum = 0;
for await (const piece of model.generate("Once upon a time", {
  maxNewTokens: 60,
  temperature: 0.8,
  topP: 0.95,
  seed: 7,
})) {
  process.stdout.write(piece.text);
  sum += piece.logProb;
}
console.log(`\n\nlog-probability of all that: ${sum.toFixed(2)} nats`);
await model.close();
