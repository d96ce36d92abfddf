// The page and the picture of tied.mjs.
import { page } from "./page.mjs";
import { claim, compared, fixed, mebibytes, percent, short, table, whole, withRange } from "./words.mjs";

/** How far apart parameters may be that the page calls the same. */
const SAME = 0.01;

/** @returns {{ markdown: string, picture: Parameters<typeof import("./chart.mjs").drawChart>[0] }} */
export function tiedPage(results, data) {
  const [tied, untied, larger] = ["tied", "untied", "tied, larger body"].map((name) => data.group(name));
  const V = tied.variant.settings.vocabSize;
  const D = results.settings.hiddenSize;
  const of = (group) => group.same("parameters");
  const { layers, innerSize } = larger.variant.settings;
  const budget = claim(
    data.groups.every((group) => group.runs.every((run, i) => hasBudget(run, tied.runs[i]))),
    `All have one tokenizer, so the same bytes of text are the same tokens and the same steps here: ${short(tied.spread("tokens").mean)} tokens in ${whole(tied.same("steps"))} steps.`,
  );
  const markdown = page(results, data, {
    title: "Tied and untied",
    alt: "Bits per byte against parameters of a tied and an untied model, and of a tied one with a larger body",
    intro: `A language model begins with a matrix [V, D], of which it reads a token's row, and ends with another, which makes V logits of a hidden state. Tied, the two are one. What does that save, and what does it cost? Here V is ${V} and D is ${D}.`,
    setUp: `Three models read the same text once: one tied; one untied with the same body, and so with V·D parameters more; and one tied with the parameters of the untied, which it has in a larger body of ${layers} layers with an MLP of ${innerSize}. ${budget} Models with the same body and seed begin with the same body and embedding, and see the same batches in the same order.`,
    table: table(
      [
        "model",
        "parameters",
        "in embedding and head",
        "weights' file",
        "memory, loaded",
        "memory, training",
        "bits per byte",
      ],
      data.groups.map((group) => [
        group.variant.name,
        whole(of(group)),
        percent(group.same("vocabularyParameters") / of(group)),
        mebibytes(group.same("fileBytes")),
        mebibytes(group.spread("memory").mean),
        mebibytes(group.spread("trainingMemory").mean),
        withRange(group.spread("bitsPerByte"), 4),
      ]),
    ),
    findings: [
      claim(
        of(untied) - of(tied) === V * D,
        `**Size.** The second matrix is V·D = ${whole(V * D)} parameters: untied, the same body comes to ${fixed(of(untied) / of(tied), 2)} times the parameters of the tied model. The float32 weights' file has ${fixed(ratio(untied, tied, "fileBytes"), 2)} times the bytes; the device holds ${fixed(ratio(untied, tied, "memory"), 2)} times as much of the loaded model, and ${fixed(ratio(untied, tied, "trainingMemory"), 2)} times as much at the end of training (weights, gradients, the optimizer's state).`,
      ),
      `**The same body.** ${compared({ name: "tied", group: tied }, { name: "untied", group: untied })}`,
      claim(
        Math.abs(of(larger) / of(untied) - 1) <= SAME,
        `**The same parameters** (${whole(of(larger))} and ${whole(of(untied))}). ${compared({ name: "tied with the larger body", group: larger }, { name: "untied", group: untied })}`,
      ),
    ],
    limits: [
      "Larger models: the larger the body, the smaller the share of the parameters that tying saves.",
      "Longer training: the models read this text once.",
      "The best of each: one learning rate and one initialisation were used for all, tuned for none.",
    ],
  });
  return { markdown, picture: picture(data) };
}

const hasBudget = (run, { steps, tokens, bytes }) =>
  run.steps === steps && run.tokens === tokens && run.bytes === bytes;

const ratio = (a, b, field) => a.spread(field).mean / b.spread(field).mean;

function picture({ groups }) {
  const points = groups.map((group) => ({
    x: group.same("parameters") / 1e6,
    y: group.spread("bitsPerByte"),
    label: group.variant.name,
  }));
  return {
    title: "Bits per byte against parameters, tied and untied",
    x: { name: "parameters, millions" },
    panels: [
      {
        y: "validation, bits per byte (fewer are better)",
        fromZero: false,
        height: 320,
        lines: points.map((point) => ({ joined: false, points: [point] })),
      },
    ],
  };
}
