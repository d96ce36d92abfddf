// The page and the picture of vocabulary-size.mjs.
import { page } from "./page.mjs";
import {
  claim,
  compared,
  difference,
  fixed,
  listed,
  percent,
  short,
  table,
  whole,
  withRange,
} from "./words.mjs";

const bytesASecond = (run) => run.bytes / run.seconds;
const tokensASecond = (run) => run.tokens / run.seconds;
const shareOf = (group) => group.same("vocabularyParameters") / group.same("parameters");
/** Of the validation text: bits of a token over bits of a byte. */
const bytesAToken = (group) => group.spread((run) => run.loss / Math.LN2 / run.bitsPerByte).mean;
const tokensOf = (group) => group.spread("tokens").mean;
const sizeOf = (group) => group.variant.settings.vocabSize;

/** @returns {{ markdown: string, picture: Parameters<typeof import("./chart.mjs").drawChart>[0] }} */
export function vocabularySizePage(results, data) {
  const equalBytes = data.groups.filter(({ variant }) => variant.stepsOf === undefined);
  const largest = equalBytes.at(-1);
  // The largest takes as many tokens as itself.
  const equalTokens = [...data.groups.filter(({ variant }) => variant.stepsOf !== undefined), largest];
  const [smallest] = equalBytes;
  const [from, to] = [sizeOf(smallest), sizeOf(largest)];
  const markdown = page(results, data, {
    title: "Vocabulary size",
    alt: "Bits per byte, share of the parameters and speed against vocabulary size",
    intro: `More tokens in the vocabulary make fewer of a text, but a larger matrix [V, D]. What does V = ${from} to ${to} do to a model's parameters, its speed, and how well it predicts? Embedding and head are one matrix here (tied), the body is the same for all.`,
    setUp: `Bits per byte compare models of different tokenizers, which losses by token do not. Two budgets are fair, and both were run. **Equal bytes**: each model reads the text once, ${short(results.text.training.bytes)} bytes, in as many steps as its tokens need. **Equal tokens**: each takes the steps that V = ${to} takes to read it once, ${whole(largest.same("steps"))}; a smaller vocabulary has then read only the part of the text that the table shows. Time is the steps' number times the median step, without validation.`,
    table: `${table(
      [
        "V, equal bytes",
        "parameters",
        "in the vocabulary",
        "bytes a token",
        "tokens",
        "steps",
        "training, seconds",
        "tokens a second",
        "bytes a second",
        "bits per byte",
      ],
      equalBytes.map((group) => [
        sizeOf(group),
        whole(group.same("parameters")),
        percent(shareOf(group)),
        fixed(bytesAToken(group), 2),
        whole(tokensOf(group)),
        whole(group.same("steps")),
        withRange(group.spread("seconds"), 1),
        whole(group.spread(tokensASecond).mean),
        whole(group.spread(bytesASecond).mean),
        withRange(group.spread("bitsPerByte"), 4),
      ]),
    )}\n\n${table(
      ["V, equal tokens", "tokens", "steps", "of the text", "training, seconds", "bits per byte"],
      equalTokens.map((group) => [
        sizeOf(group),
        whole(tokensOf(group)),
        whole(group.same("steps")),
        percent(group.same("bytes") / results.text.training.bytes),
        withRange(group.spread("seconds"), 1),
        withRange(group.spread("bitsPerByte"), 4),
      ]),
    )}`,
    findings: [
      claim(
        rises(equalBytes, shareOf),
        `**Parameters.** The vocabulary's share of the parameters rises from ${percent(shareOf(smallest))} at V = ${from} to ${percent(shareOf(largest))} at V = ${to}.`,
      ),
      claim(
        rises(equalBytes, bytesAToken),
        `**Tokens.** A token of the validation text stands for ${fixed(bytesAToken(smallest), 2)} bytes at V = ${from} and for ${fixed(bytesAToken(largest), 2)} at V = ${to}; to read the training text once, V = ${from} takes ${fixed(smallest.same("steps") / largest.same("steps"), 2)} times the steps of V = ${to}.`,
      ),
      `**Speed of training.** ${fastest(equalBytes, tokensASecond, "tokens")} ${fastest(equalBytes, bytesASecond, "bytes")}`,
      `**Equal bytes.** ${best(equalBytes)}`,
      `**Equal tokens.** ${best(equalTokens)}`,
    ],
    limits: [
      "The best vocabulary for other models: the larger the body, the smaller the share of the work that a larger vocabulary adds.",
      "Small differences of speed: where the seeds' ranges overlap, what else the machine did may have made them.",
      "Longer training: in so little text a large vocabulary's rare tokens occur only a few times.",
      "Equal context: all models see the same number of tokens before a prediction, which for a larger vocabulary are more bytes.",
      "The best of each: one learning rate and one number of tokens a step were used for all, tuned for none.",
    ],
  });
  return { markdown, picture: picture(equalBytes, equalTokens) };
}

function rises(groups, of) {
  return groups.every((group, i) => i === 0 || of(group) > of(groups[i - 1]));
}

/** Who reads most in a second, and how far the others are from it. */
function fastest(groups, speed, unit) {
  const speeds = groups.map((group) => ({ V: sizeOf(group), mean: group.spread(speed).mean }));
  const { V, mean } = speeds.reduce((a, b) => (b.mean > a.mean ? b : a));
  const slowest = speeds.reduce((a, b) => (b.mean < a.mean ? b : a));
  return `Most ${unit} a second go through V = ${V} (${whole(mean)}), fewest through V = ${slowest.V} (${whole(slowest.mean)}).`;
}

/** Which size is best, and from which others all seeds tell it apart. */
function best(groups) {
  const winner = groups.reduce((a, b) =>
    b.spread("bitsPerByte").mean < a.spread("bitsPerByte").mean ? b : a,
  );
  const others = groups.filter((group) => group !== winner);
  const unsure = others.filter((group) => difference(winner, group).max >= 0);
  const V = (group) => `V = ${sizeOf(group)}`;
  const next = others.toSorted((a, b) => a.spread("bitsPerByte").mean - b.spread("bitsPerByte").mean)[0];
  const certain =
    unsure.length === 0
      ? "and with each seed fewer than any other size."
      : `but the seeds do not all put it before ${listed(unsure.map(V))}.`;
  return `${V(winner)} has the fewest bits per byte in the mean, ${fixed(winner.spread("bitsPerByte").mean, 4)}, ${certain} Against the next, ${V(next)}: ${lowerFirst(compared({ name: V(winner), group: winner }, { name: V(next), group: next }))}`;
}

const lowerFirst = (text) => text[0].toLowerCase() + text.slice(1);

function picture(equalBytes, equalTokens) {
  const thousands = (of) => (run) => of(run) / 1000;
  return {
    title: "Bits per byte, share of the parameters and speed against vocabulary size",
    x: { name: "V, tokens in the vocabulary", powers: equalBytes.map(sizeOf) },
    panels: [
      {
        y: "validation, bits per byte (fewer are better)",
        fromZero: false,
        height: 230,
        lines: pair(
          { groups: equalBytes, what: "bitsPerByte", label: "equal bytes" },
          { groups: equalTokens, what: "bitsPerByte", label: "equal tokens" },
        ),
      },
      {
        y: "share of the parameters in the vocabulary, %",
        fromZero: true,
        height: 130,
        lines: [
          line({ groups: equalBytes, what: (run) => (100 * run.vocabularyParameters) / run.parameters }),
        ],
      },
      {
        y: "read in training, thousands a second",
        fromZero: true,
        height: 150,
        lines: pair(
          { groups: equalBytes, what: thousands(bytesASecond), label: "bytes" },
          { groups: equalBytes, what: thousands(tokensASecond), label: "tokens" },
        ),
      },
    ],
  };
}

/** Two lines from the smallest size on: the label of the one that is higher there stands above it, the other's below. */
function pair(one, two) {
  const first = ({ groups, what }) => groups[0].spread(what).mean;
  const sides = first(one) > first(two) ? ["above", "below"] : ["below", "above"];
  return [line(one, sides[0]), line(two, sides[1])];
}

function line({ groups, what, label }, side) {
  const points = groups.map((group, i) => ({
    x: sizeOf(group),
    y: group.spread(what),
    ...(i === 0 && label && { label, side }),
  }));
  return { joined: true, points };
}
