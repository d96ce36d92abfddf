import type { Metrics, StepMetric } from "../metrics.js";
import { smoothed, smoothingFactor, thin } from "./series.js";

/** What the page's plots show: plain data, which the page holds as JSON. */

/** Points of one line at most. */
export const MOST_POINTS = 4000;

/** Up to so many points a line's points are drawn as dots too. */
const FEW = 60;

/** Which of the page's colours a line has. */
export type Colour = "faint" | "training" | "validation";

export interface Line {
  readonly label: string;
  readonly colour: Colour;
  /** Whether each point has a dot. */
  readonly dots: boolean;
  /** A number for each of the chart's steps, or null where the line has none. */
  readonly y: readonly (number | null)[];
}

export type Chart = ChartOf<Line>;

interface ChartOf<L> {
  readonly title: string;
  readonly unit: string;
  /** A sentence below the plot, or "". */
  readonly note: string;
  /** Whether the upright axis is logarithmic. */
  readonly logarithmic: boolean;
  /** Steps, ascending. */
  readonly x: readonly number[];
  readonly lines: readonly L[];
}

/** A line on steps of its own. */
interface Series {
  readonly label: string;
  readonly colour: Colour;
  readonly x: readonly number[];
  readonly y: readonly number[];
}

/** The charts of a run, all from its first step to its last; without those that would be empty. */
export function chartsOf({ steps, validations }: Metrics): Chart[] {
  // Without a norm above 0 a logarithmic axis would be empty; a 0 among others lies below its end.
  const hasNorms = steps.some(({ gradientNorm }) => gradientNorm > 0);
  const factor = smoothingFactor(steps.length);
  const charts: Omit<ChartOf<Series>, "x">[] = [
    {
      title: "Loss",
      unit: "nats per token",
      note:
        factor > 0
          ? `Smoothed: exponential moving average of the steps, factor ${factor} (less in the first ones).`
          : "",
      logarithmic: false,
      lines: [
        ...trainingLines(steps, factor),
        series("validation", "validation", validations, ({ loss }) => loss),
      ],
    },
    {
      title: "Learning rate",
      unit: "",
      note: "",
      logarithmic: false,
      lines: [series("learning rate", "training", steps, ({ learningRate }) => learningRate)],
    },
    {
      title: "Gradient norm",
      unit: hasNorms ? "before clipping, logarithmic" : "before clipping",
      note: "",
      logarithmic: hasNorms,
      lines: [series("gradient norm", "training", steps, ({ gradientNorm }) => gradientNorm)],
    },
    {
      title: "Bits per byte",
      unit: "of validation text",
      note: "",
      logarithmic: false,
      lines: [series("bits per byte", "validation", validations, ({ bitsPerByte }) => bitsPerByte)],
    },
  ];
  // Both firsts: where step 0 has no place, all charts begin at the other.
  const ends = [steps[0], validations[0], steps.at(-1), validations.at(-1)].flatMap((row) => row?.step ?? []);
  return charts
    .map((chart) => ({ ...chart, lines: chart.lines.filter(({ x }) => x.length > 0) }))
    .filter(({ lines }) => lines.length > 0)
    .map((chart) => aligned(chart, ends));
}

/** The training loss; behind its moving average when that smooths anything. */
function trainingLines(steps: readonly StepMetric[], factor: number): Series[] {
  const losses = series("training", "faint", steps, ({ loss }) => loss);
  if (factor === 0) return [{ ...losses, colour: "training" }];
  const average = smoothed(
    steps.map(({ loss }) => loss),
    factor,
  );
  const at = new Map(steps.map(({ step }, i) => [step, average[i]]));
  return [
    losses,
    { ...losses, label: "smoothed", colour: "training", y: losses.x.map((step) => at.get(step)!) },
  ];
}

function series<Row extends { readonly step: number }>(
  label: string,
  colour: Colour,
  rows: readonly Row[],
  value: (row: Row) => number,
): Series {
  const kept = thin(rows.map(value), MOST_POINTS).map((i) => rows[i]);
  return { label, colour, x: kept.map(({ step }) => step), y: kept.map(value) };
}

/** Puts lines with steps of their own on the steps of all, from the first of the run to its last. */
function aligned(chart: Omit<ChartOf<Series>, "x">, ends: readonly number[]): Chart {
  const x = [...new Set([...ends, ...chart.lines.flatMap((line) => line.x)])].sort((a, b) => a - b);
  const lines = chart.lines.map(({ label, colour, x: steps, y }) => {
    const values = new Map(steps.map((step, i) => [step, y[i]]));
    return { label, colour, dots: steps.length <= FEW, y: x.map((step) => values.get(step) ?? null) };
  });
  return { ...chart, x, lines };
}
