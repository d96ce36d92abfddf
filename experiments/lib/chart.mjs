// Pictures as SVG, by ECharts: it draws SVG as a string in Node, without a browser. It installs 4 packages; vega-lite
// with vega, which could do this too, 79.
import * as echarts from "echarts";

/** Colours on a light page and on a dark one. */
const COLOURS = {
  page: ["#ffffff", "#0d1117"],
  ink: ["#1f2328", "#e6edf3"],
  quiet: ["#59636e", "#9198a1"],
  grid: ["#d8dee4", "#30363d"],
  lines: [
    ["#0969da", "#58a6ff"],
    ["#bc4c00", "#f0883e"],
    ["#1a7f37", "#3fb950"],
  ],
};
const [PAGE, INK, QUIET, GRID] = [COLOURS.page, COLOURS.ink, COLOURS.quiet, COLOURS.grid].map(
  ([light]) => light,
);

const WIDTH = 720;
const MARGIN = { left: 76, right: 40, top: 42, bottom: 52 };
/** Half a bar's cap, and from the bar to the seeds' circles: pixels. */
const CAP = 5;
const BESIDE = 12;
const SIDES = {
  right: { position: "right", distance: 10 },
  above: { position: "top", distance: 12, align: "left" },
  below: { position: "bottom", distance: 12, align: "left" },
};
/** So that a label stays legible on a line. */
const HALO = { textBorderColor: PAGE, textBorderWidth: 3 };
const FONT = { fontFamily: "system-ui, sans-serif", fontSize: 13 };

/**
 * @typedef {object} Point
 * @property {number} x
 * @property {{ mean: number, min: number, max: number, values: number[] }} y a dot at the mean, a bar from min to max, a
 *   small circle beside it for each value
 * @property {string} [label] beside it
 * @property {"right" | "above" | "below"} [side] where that stands; default right
 *
 * @typedef {object} Line
 * @property {Point[]} points
 * @property {boolean} joined whether a line goes through the means
 *
 * @typedef {object} Panel
 * @property {string} y what its upright axis shows, with the unit
 * @property {boolean} fromZero whether that axis begins at 0
 * @property {Line[]} lines at most three
 * @property {number} height of the plot, pixels
 *
 * @typedef {object} XAxis
 * @property {string} name with the unit
 * @property {number[]} [powers] of 2 to show, on a logarithmic axis; absent: a plain one around the points
 */

/**
 * Panels one below the other over the same x axis, legible on light and dark pages.
 * @param {{ title: string, x: XAxis, panels: Panel[] }} picture
 * @returns {string} the SVG
 */
export function drawChart({ title, x, panels }) {
  const places = placesOf(panels);
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height: places.height });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: PAGE,
      textStyle: FONT,
      grid: places.tops.map((top, i) => ({
        left: MARGIN.left,
        right: MARGIN.right,
        top,
        height: panels[i].height,
      })),
      xAxis: panels.map((_, i) => xAxis(x, i, i === panels.length - 1)),
      yAxis: panels.map(yAxis),
      series: panels.flatMap(({ lines }, panel) => lines.flatMap((line, i) => seriesOf(line, i, panel))),
    });
    return forBothPages(chart.renderToSVGString(), title);
  } finally {
    chart.dispose();
  }
}

function placesOf(panels) {
  let height = 0;
  const tops = panels.map((panel) => {
    const top = height + MARGIN.top;
    height = top + panel.height;
    return top;
  });
  return { tops, height: height + MARGIN.bottom };
}

function xAxis({ name, powers }, gridIndex, isLast) {
  const shared = axis(isLast ? name : "", "middle");
  const axisLabel = { ...shared.axisLabel, show: isLast };
  return {
    ...shared,
    gridIndex,
    axisLabel,
    ...(powers
      ? {
          type: "log",
          logBase: 2,
          // Half a power of two on either side.
          min: powers[0] / Math.SQRT2,
          max: powers.at(-1) * Math.SQRT2,
          axisTick: { customValues: powers },
          axisLabel: { ...axisLabel, customValues: powers, formatter: (value) => `${Math.round(value)}` },
        }
      : { type: "value", scale: true, boundaryGap: ["15%", "25%"] }),
    nameGap: 32,
    splitLine: { show: false },
  };
}

function yAxis({ y, fromZero }, gridIndex) {
  return {
    gridIndex,
    type: "value",
    scale: !fromZero,
    boundaryGap: fromZero ? [0, "10%"] : ["15%", "15%"],
    splitNumber: 4,
    ...axis(y, "end"),
    nameGap: 12,
    nameTextStyle: { ...FONT, color: INK, align: "left", padding: [0, 0, 0, 6 - MARGIN.left] },
    splitLine: { lineStyle: { color: GRID } },
  };
}

function axis(name, nameLocation) {
  return {
    name,
    nameLocation,
    nameTextStyle: { ...FONT, color: INK },
    axisLabel: { ...FONT, color: QUIET },
    axisLine: { show: true, onZero: false, lineStyle: { color: QUIET } },
  };
}

/** A line's bars, its means, and its single values. */
function seriesOf({ points, joined }, index, panel) {
  const [colour] = COLOURS.lines[index];
  // What is the same for all seeds has no bar.
  const spread = points.filter(({ y }) => y.max > y.min);
  const common = { xAxisIndex: panel, yAxisIndex: panel, silent: true, clip: false };
  return [
    {
      ...common,
      type: "custom",
      data: spread.map(({ x, y }) => [x, y.min, y.max]),
      encode: { x: 0, y: [1, 2] },
      renderItem: (_, api) => errorBar(api, colour),
      z: 2,
    },
    {
      ...common,
      type: "scatter",
      data: spread.flatMap(({ x, y }) => y.values.map((value) => [x, value])),
      symbolSize: 6,
      symbolOffset: [-BESIDE, 0],
      itemStyle: { color: PAGE, borderColor: colour, borderWidth: 1 },
      z: 3,
    },
    {
      ...common,
      type: "line",
      data: points.map(({ x, y, label, side = "right" }) => ({
        value: [x, y.mean],
        label: {
          show: label !== undefined,
          formatter: label,
          ...SIDES[side],
          ...HALO,
          color: colour,
          ...FONT,
        },
      })),
      symbol: "circle",
      symbolSize: 8,
      showAllSymbol: true,
      itemStyle: { color: colour },
      lineStyle: { color: colour, width: joined ? 2 : 0 },
      z: 4,
    },
  ];
}

function errorBar(api, stroke) {
  const [x, low] = api.coord([api.value(0), api.value(1)]);
  const [, high] = api.coord([api.value(0), api.value(2)]);
  const line = (x1, y1, x2, y2) => ({
    type: "line",
    shape: { x1, y1, x2, y2 },
    style: { stroke, lineWidth: 1.5, fill: "none" },
  });
  const caps = [low, high].map((y) => line(x - CAP, y, x + CAP, y));
  return { type: "group", children: [line(x, low, x, high), ...caps] };
}

/** The colours of a dark page where the reader's is dark; a name for those who don't see; none of ECharts' own marks. */
function forBothPages(svg, title) {
  const { lines, ...others } = COLOURS;
  const rules = [...Object.values(others), ...lines].flatMap(([light, dark]) =>
    ["fill", "stroke"].map((paint) => `[${paint}="${light}"]{${paint}:${dark}}`),
  );
  const style = `<style>@media (prefers-color-scheme:dark){${rules.join("")}}</style>`;
  return `${svg
    .replace(/<style ?>.*?<\/style>\s*/s, "")
    .replace(/ (?:class|ecmeta_\w+|pointer-events)="[^"]*"/g, "")
    .replace(/^<svg [^>]*>/, (tag) => `${tag}\n<title>${escaped(title)}</title>\n${style}`)
    .replace("<svg ", '<svg role="img" ')
    .trimEnd()}\n`;
}

const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
