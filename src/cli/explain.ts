import type { ModelInfo } from "../node.js";
import type { TopRow } from "./commands/next.js";
import {
  bar,
  type Colours,
  type Column,
  fixed,
  grouped,
  percent,
  printable,
  table,
  truncate,
  vector,
  visible,
} from "./render.js";

/** Everything that the explanation shows; each number comes from the model's own run on this prompt. */
export interface Explained {
  /** The prompt as it was given; undefined when it came as ids. */
  readonly text: string | undefined;
  readonly ids: readonly number[];
  readonly tokens: readonly string[];
  readonly info: ModelInfo;
  /** What enters the first layer, [T, D] row-major. */
  readonly vectors: Float32Array;
  /** What the head receives, [T, D]. */
  readonly hidden: Float32Array;
  /** All logits of the last position, [V]. */
  readonly logits: Float32Array;
  readonly logSumExp: number;
  readonly entropy: number;
  /** The likeliest, with the processed fields when sampling options were given. */
  readonly top: readonly TopRow[];
}

/** Rows shown at the beginning and at the end of a long prompt. */
const shownAtEachEnd = 4;

/** The article's six steps, from text to the chosen token, with shapes. */
export function explain(facts: Explained, colour: Colours): string {
  const steps = [text, vectors, hidden, logits, probabilities, choice];
  return steps
    .map((step, i) => {
      const { title, shape, lines } = step(facts);
      const head = `${colour.bold(`${i + 1}. ${title}`)}  ${colour.cyan(shape)}`;
      return [head, ...lines.flatMap((line) => line.split("\n")).map((line) => `   ${line}`)].join("\n");
    })
    .join("\n\n");
}

interface Step {
  readonly title: string;
  readonly shape: string;
  readonly lines: readonly string[];
}

/** Indices of the rows to show, with -1 where rows are left out. */
function shownRows(count: number): number[] {
  const all = Array.from({ length: count }, (_, i) => i);
  if (count <= 2 * shownAtEachEnd + 1) return all;
  return [...all.slice(0, shownAtEachEnd), -1, ...all.slice(count - shownAtEachEnd)];
}

function text({ text, ids, tokens }: Explained): Step {
  const rows = shownRows(ids.length).map((i) =>
    i < 0 ? ["…", "", ""] : [String(i), String(ids[i]), visible(tokens[i])],
  );
  const columns = [
    { title: "position", align: "right" },
    { title: "id", align: "right" },
    { title: "token" },
  ] as const;
  const given = text === undefined ? "given as ids" : `"${truncate(printable(text), 72)}"`;
  return {
    title: "Text becomes tokens, and tokens ids",
    shape: `ids [T=${ids.length}]`,
    lines: [given, table(columns, rows)],
  };
}

function rowsOf({ ids, tokens, info }: Explained, data: Float32Array): string {
  const width = info.hiddenSize;
  const rows = shownRows(ids.length).map((i) =>
    i < 0 ? ["…", ""] : [visible(tokens[i]), vector(data.subarray(i * width, (i + 1) * width))],
  );
  return table([{ title: "", max: 16 }, { title: "" }], rows);
}

function vectors(facts: Explained): Step {
  const { ids, info } = facts;
  return {
    title: "Each id picks its row of the embedding: a vector",
    shape: `[V=${info.rows}, D=${info.hiddenSize}] → vectors [T=${ids.length}, D=${info.hiddenSize}]`,
    // Gemma's scale and GPT-2's learned positions are in them: these are the numbers the body gets.
    lines: [
      rowsOf(facts, facts.vectors),
      "these enter the first layer (with a scale or positions, if the model adds them)",
    ],
  };
}

function hidden(facts: Explained): Step {
  const { ids, info } = facts;
  const width = info.hiddenSize;
  const last = facts.hidden.subarray((ids.length - 1) * width, ids.length * width);
  const norm = Math.sqrt(last.reduce((sum, x) => sum + x * x, 0));
  return {
    title: `${info.layers} layers let each position look at those before it`,
    shape: `hidden [T=${ids.length}, D=${width}]`,
    lines: [
      rowsOf(facts, facts.hidden),
      `the last row, of length ${fixed(norm, 4)}, predicts what comes next`,
    ],
  };
}

function logits({ logits, info, top }: Explained): Step {
  let least = Infinity;
  let sum = 0;
  for (const logit of logits) {
    if (logit < least) least = logit;
    sum += logit;
  }
  const tied = info.tied ? "W is the embedding itself (tied)" : "W is the head's own matrix (not tied)";
  return {
    title: "The head multiplies it by every row of the vocabulary",
    shape: `hidden [D=${info.hiddenSize}] · Wᵀ [D, V] → logits [V=${logits.length}]`,
    lines: [
      `logits = ${info.head}; ${tied}`,
      `largest ${fixed(top[0].logit, 4)}, smallest ${fixed(least, 4)}, mean ${fixed(sum / logits.length, 4)}`,
    ],
  };
}

function probabilities({ logits, logSumExp, entropy, top }: Explained): Step {
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - logSumExp);
  const most = top[0].prob;
  const processed = top[0].processedProb !== undefined;
  const rows = top.map(({ id, token, logit, prob, processedProb = 0 }) => [
    String(id),
    visible(token),
    `exp(${fixed(logit, 4)} - ${fixed(logSumExp, 4)})`,
    percent(prob),
    ...(processed ? [percent(processedProb)] : []),
    bar(most > 0 ? prob / most : 0, 20),
  ]);
  const columns: Column[] = [
    { title: "id", align: "right" },
    { title: "token", max: 24 },
    { title: "exp(logit - log-sum-exp)", align: "right" },
    { title: "prob", align: "right" },
    ...(processed ? [{ title: "processed", align: "right" } as const] : []),
    { title: "" },
  ];
  return {
    title: "Log-sum-exp turns logits into probabilities",
    shape: `probabilities [V=${logits.length}]`,
    lines: [
      `log-sum-exp = log Σ exp(logit) = ${fixed(logSumExp, 4)}`,
      table(columns, rows),
      `all ${grouped(logits.length)} add up to ${total.toFixed(6)}; entropy ${fixed(entropy, 4)} nats`,
    ],
  };
}

function choice({ top, text }: Explained): Step {
  const { id, token, prob } = top[0];
  const so = text === undefined ? [] : [`"${truncate(printable(text + token), 72)}"`];
  return {
    title: "One token is chosen: here the likeliest",
    shape: "id [1]",
    lines: [`${id} ${visible(token)}, ${percent(prob)}; generate appends it and begins again`, ...so],
  };
}
