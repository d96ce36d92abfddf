// What the pages of all experiments have: the picture, the numbers of each seed, and how to make them again.
import { fixed, listed, short, table } from "./words.mjs";

/**
 * @param {import("./results.mjs").Results} results
 * @param {ReturnType<typeof import("./results.mjs").grouped>} data
 * @param {{ title: string, alt: string, intro: string, setUp: string, table: string, findings: string[], limits: string[] }} parts
 *   Markdown
 * @returns {string} the page
 */
export function page(results, { seeds, groups }, parts) {
  const { experiment, smoke, command, machine } = results;
  const commits = [...new Set(results.runs.map(({ commit }) => commit))];
  const list = (items) => items.map((item) => `- ${item}`).join("\n");
  return `${[
    `# ${parts.title}`,
    ...(smoke
      ? ["**A smoke run: tiny models that have read next to nothing. Its numbers show nothing.**"]
      : []),
    parts.intro,
    `![${parts.alt}](${experiment}.svg)`,
    `Dots are means over ${seeds.length} seeds, bars go from the least to the most, the circles beside them are the seeds.`,
    parts.table,
    `Ranges in brackets are from the least to the most of the seeds. Bits per byte are those of the validation text: the fewer, the better.`,
    "## What the numbers say",
    list(parts.findings),
    "## What was done",
    `${parts.setUp} ${common(results, seeds)}`,
    "## What it does not show",
    list(parts.limits),
    "## Each seed",
    table(
      ["bits per byte", ...seeds.map((seed) => `seed ${seed}`)],
      groups.map(({ variant, runs }) => [
        variant.name,
        ...runs.map(({ bitsPerByte }) => fixed(bitsPerByte, 4)),
      ]),
    ),
    "## Again",
    `Made by these commands on ${machine}, at commit ${listed(commits)}; DIR is any folder. All numbers are in [${experiment}.json](${experiment}.json), of which the last command makes this page and its picture.`,
    `\`\`\`\nnpm run build\nnode models/tiny-gpt/recipe/prepare.mjs --out DIR\n${command} --seeds ${seeds.join(",")}\nnode experiments/render.mjs ${experiment}\n\`\`\``,
  ].join("\n\n")}\n`;
}

/** What all runs have in common. */
function common({ text, settings }, seeds) {
  const { training, validation } = text;
  const part = ({ documents, bytes }) =>
    `${documents} ${documents === 1 ? "document" : "documents"}, ${short(bytes)} bytes`;
  const { family, hiddenSize, layers, heads, innerSize, contextLength, batchSize, optimizer } = settings;
  return `The text is the beginning of WikiText-2 as prepare.mjs writes it: ${part(training)} to train on, which the tokenizer too is trained on, and ${part(validation)} of other articles to validate, all of them after the last step. Unless said otherwise the body is of the family ${family} with ${layers} ${layers === 1 ? "layer" : "layers"}, D = ${hiddenSize}, ${heads} heads and an MLP of ${innerSize}. A step takes ${batchSize} sequences of ${contextLength} tokens; attention stays within a document. The optimizer is ${optimizer} with a weight decay of ${settings.weightDecay}; its learning rate is ${settings.learningRate} after a warm-up and falls to ${settings.finalFraction} of that (${settings.schedule}). Seeds ${listed(seeds.map(String))} draw the weights and the order of the text.`;
}
