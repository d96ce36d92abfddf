import type uPlot from "uplot";
import type { Chart } from "./charts.js";
import type { figures } from "./format.js";

/**
 * Draws the charts into the page's `.plot` elements, one each, and again when the colours change, for print, and when
 * the steps become logarithmic. The page holds this function's text, so it refers to nothing outside itself but the
 * browser's globals.
 * @param plot the class of uPlot's own script
 * @param format `figures`
 */
export function drawCharts(plot: typeof uPlot, charts: readonly Chart[], format: typeof figures): void {
  const root = document.documentElement;
  const places = [...document.querySelectorAll<HTMLElement>(".plot")];
  const logSteps = document.querySelector<HTMLInputElement>("#log-steps");
  /** Width of a printed page's text: A4 with usual margins. */
  const PRINTED = 660;
  /** Distances between ticks of whole steps: 1, 2, 5, 10, … */
  const WHOLE = Array.from({ length: 16 }, (_, power) =>
    [1, 2, 5].map((digit) => digit * 10 ** power),
  ).flat();
  let drawn: uPlot[] = [];

  const width = (place: HTMLElement) =>
    root.classList.contains("printing") ? Math.min(PRINTED, place.clientWidth) : place.clientWidth;

  /** Text of an axis: as many digits as tell its ticks apart; null where uPlot wants none. */
  const tick = (value: number | null) => {
    if (value === null) return null;
    const size = Math.abs(value);
    const number = Number(value.toPrecision(6));
    return size !== 0 && (size < 1e-3 || size >= 1e5)
      ? number.toExponential().replace("e+", "e")
      : number.toLocaleString("en-US", { maximumSignificantDigits: 6 });
  };

  /** Ends of a logarithmic axis: values of one digit, where uPlot would go to the next powers of ten. */
  const aroundLogs = (_: uPlot, low: number | null, high: number | null): uPlot.Range.MinMax => {
    if (low === null || high === null) return [1, 10];
    // Decimal fractions by way of text: 3 · 0.1 is not 0.3. What is near the ends of all numbers would leave them.
    const rounded = (value: number, round: (value: number) => number) => {
      const power = Math.floor(Math.log10(Math.min(1e300, Math.max(1e-300, value))));
      return Number(`${round(value / 10 ** power)}e${power}`);
    };
    const from = Math.max(1e-300, rounded(low, Math.floor));
    const to = Math.min(1e300, rounded(high, Math.ceil));
    return from < to ? [from, to] : [from / 2, to * 2];
  };

  const aroundSteps = (self: uPlot, low: number | null, high: number | null): uPlot.Range.MinMax => {
    const [from, to] = aroundLogs(self, low, high);
    return [Math.max(1, from as number), to];
  };

  /** Ends of a plain axis: uPlot's, and an axis too where there is no value. */
  const around = (_: uPlot, low: number | null, high: number | null): uPlot.Range.MinMax =>
    low === null || high === null ? [0, 1] : plot.rangeNum(low, high, 0.1, true);

  const draw = () => {
    for (const old of drawn) old.destroy();
    const style = getComputedStyle(root);
    const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const isLog = logSteps?.checked === true;
    const axis = {
      stroke: colour("quiet"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: colour("grid"), width: 1 },
      ticks: { stroke: colour("grid"), width: 1, size: 5 },
    };
    drawn = charts.map((chart, i) => {
      // Step 0, before the first, has no place on a logarithmic axis.
      const from = isLog && chart.x[0] === 0 ? 1 : 0;
      const x = chart.x.slice(from);
      const lines = chart.lines.map((line) => ({ ...line, y: line.y.slice(from) }));
      /** The value of the cursor, or the last when there is none; with its step when that is another than the cursor's. */
      const shown = (values: readonly (number | null)[], at: number | null, cursor?: number | null) => {
        const i = at ?? values.findLastIndex((value) => value !== null);
        if (i < 0) return "";
        const step = i === (cursor ?? x.length - 1) ? "" : ` at ${x[i].toLocaleString("en-US")}`;
        return format(values[i] as number) + step;
      };
      const options: uPlot.Options = {
        width: width(places[i]),
        height: places[i].clientHeight,
        // A place without a line at this step shows its nearest.
        cursor: { y: false, sync: { key: "steps" }, hover: { skip: [null] } },
        legend: {
          mount: (_, legend) => places[i].parentElement?.querySelector(".legend")?.replaceChildren(legend),
        },
        scales: {
          x: isLog ? { time: false, distr: 3, range: aroundSteps } : { time: false },
          y: chart.logarithmic ? { distr: 3, range: aroundLogs } : { range: around },
        },
        axes: [
          {
            ...axis,
            space: 80,
            size: 32,
            incrs: WHOLE,
            values: (_, splits) => splits.map((step) => step?.toLocaleString("en-US") ?? null),
          },
          { ...axis, size: 58, values: (_, splits) => splits.map(tick) },
        ],
        series: [
          {
            label: "step",
            value: (_, __, ___, at) => x[at ?? x.length - 1]?.toLocaleString("en-US") ?? "",
          },
          ...lines.map((line) => ({
            label: line.label,
            class: line.colour,
            stroke: colour(line.colour),
            width: line.colour === "faint" ? 1 : 2,
            spanGaps: true,
            pxAlign: 0,
            points: { show: line.dots, size: 6, fill: colour(line.colour) },
            value: (self: uPlot, _: number, __: number, at: number | null) =>
              shown(line.y, at, self.cursor.idx),
          })),
        ],
      };
      return new plot(options, [x, ...lines.map((line) => line.y)] as uPlot.AlignedData, places[i]);
    });
  };

  const resize = new ResizeObserver(() => {
    for (const [i, chart] of drawn.entries()) {
      const size = { width: width(places[i]), height: places[i].clientHeight };
      if (size.width > 0 && (size.width !== chart.width || size.height !== chart.height)) chart.setSize(size);
    }
  });
  const print = (on: boolean) => {
    root.classList.toggle("printing", on);
    draw();
  };

  draw();
  for (const place of places) resize.observe(place);
  logSteps?.addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
}
