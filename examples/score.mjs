// Which of two sentences does the model expect more, and which word surprised it?
import { LanguageModel } from "lmhead";
import { modelPath } from "./_model.mjs";

const model = await LanguageModel.load(modelPath());
for (const text of ["The girl was happy.", "The girl were happy."]) {
  const { tokens, perplexity, bitsPerByte } = await model.score(text);
  const worst = tokens.slice(1).reduce((a, b) => (b.logProb < a.logProb ? b : a));
  console.log(
    `${text}  perplexity ${perplexity.toFixed(1)}, ${bitsPerByte.toFixed(2)} bits a byte,`,
    `most surprising ${JSON.stringify(worst.text)} (rank ${worst.rank})`,
  );
}
await model.close();
