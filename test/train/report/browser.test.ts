import { createContext, runInContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { parseMetrics } from "../../../src/train/metrics.js";
import { trainingReport } from "../../../src/train/report/report.js";
import { jsonl, run, step, validation } from "./metrics.js";
import { charts, scripts } from "./page.js";

const page = (...lines: readonly object[]) => trainingReport(parseMetrics(jsonl([run(), ...lines]), "m"));

/** What the script gives to uPlot, as far as tests read it. */
interface Options {
  width: number;
  scales: Record<
    "x" | "y",
    { distr?: number; range: (self: object, low: number | null, high: number | null) => number[] }
  >;
  axes: { values: (self: object, splits: (number | null)[]) => (string | null)[] }[];
  series: {
    label: string;
    value: (self: object, raw: number, series: number, at: number | null) => string;
  }[];
}

interface Made {
  options: Options;
  data: (number | null)[][];
}

describe("the page's script, run without a browser", () => {
  /** Runs it with stand-ins for uPlot and for the few things that it asks of a document. */
  function drawn(html: string, { isLog = false } = {}) {
    const made: Made[] = [];
    const places = charts(html).map(() => ({ clientWidth: 900, clientHeight: 200, parentElement: null }));
    const listeners: Record<string, () => void> = {};
    const listen = { addEventListener: (name: string, listener: () => void) => (listeners[name] = listener) };
    const classes = new Set<string>();
    const classList = {
      contains: (name: string) => classes.has(name),
      toggle: (name: string, on: boolean) => (on ? classes.add(name) : classes.delete(name)),
    };
    class Plot {
      constructor(options: Options, data: (number | null)[][]) {
        made.push({ options, data });
      }
      destroy() {}
    }
    const context = createContext({
      uPlot: Plot,
      document: {
        documentElement: { classList },
        querySelectorAll: () => places,
        querySelector: () => ({ checked: isLog, ...listen }),
        getElementById: () => ({ textContent: scripts(html)[0].text }),
      },
      getComputedStyle: () => ({ getPropertyValue: (name: string) => ` ${name} ` }),
      ResizeObserver: class {
        observe() {}
      },
      matchMedia: () => listen,
      ...listen,
    });
    // Were the functions' text to name anything of their modules, this would throw.
    runInContext(scripts(html)[2].text, context);
    return { made, listeners, classes };
  }

  it("gives uPlot the metrics", () => {
    const html = page(step(1), step(2), validation(2));
    const { made } = drawn(html);
    expect(made.map(({ data }) => data)).toEqual(
      charts(html).map(({ x, lines }) => [x, ...lines.map(({ y }) => y)]),
    );
    expect(made[0].options.series.map(({ label }) => label)).toEqual(["step", "training", "validation"]);
    expect(made.map(({ options }) => options.scales.y.distr)).toEqual([undefined, undefined, 3, undefined]);
  });

  it("shows the cursor's values, else the last, with the step where it is another", () => {
    const { made } = drawn(page(step(1), step(4), validation(4), step(6)));
    const [steps, training, validated] = made[0].options.series;
    const value = (series: Options["series"][number], at: number | null, idx: number | null) =>
      series.value({ cursor: { idx } }, 0, 0, at);
    expect(made[0].data[0]).toEqual([1, 4, 6]);
    expect([value(steps, 0, 0), value(training, 0, 0), value(validated, 1, 0)]).toEqual([
      "1",
      "10.0",
      "2.00 at 4",
    ]);
    expect([value(steps, null, null), value(training, null, null)]).toEqual(["6", "1.667"]);
    expect(value(validated, null, null)).toBe("2.00 at 4");
  });

  it("leaves step 0 out on a logarithmic axis, whose ends have one digit", () => {
    const { made } = drawn(page(validation(0), step(1), step(7)), { isLog: true });
    expect(made[0].data).toEqual([
      [1, 7],
      [10, 10 / 7],
      [null, null],
    ]);
    expect(made[0].options.series[2].value({ cursor: {} }, 0, 0, null)).toBe("");
    const { x, y } = made[2].options.scales;
    expect([x.range({}, 1, 4200), x.range({}, 1, 1), y.range({}, 0.25, 30)]).toEqual([
      [1, 5000],
      [1, 2],
      [0.2, 30],
    ]);
    expect([y.range({}, 0.31, 0.39), y.range({}, 5e-324, 1.7e308)]).toEqual([
      [0.3, 0.4],
      [1e-300, 1e300],
    ]);
    expect([y.range({}, null, null), y.range({}, 3, 3)]).toEqual([
      [1, 10],
      [1.5, 6],
    ]);
  });

  it("labels ticks with as many digits as they have", () => {
    const { made } = drawn(page(step(1), step(2), validation(2)));
    const [x, y] = made[1].options.axes;
    expect(x.values({}, [0, 2000, 1e6, null])).toEqual(["0", "2,000", "1,000,000", null]);
    expect(y.values({}, [0, 3e-4, 0.1 + 0.2, 2.5, 1e5, null])).toEqual([
      "0",
      "3e-4",
      "0.3",
      "2.5",
      "1e5",
      null,
    ]);
  });

  it("draws anew, narrow and in light colours, to print, and back", () => {
    const { made, listeners, classes } = drawn(page(step(1)));
    expect(made.length).toBe(3);
    listeners.beforeprint();
    expect([made.length, classes.has("printing")]).toEqual([6, true]);
    listeners.afterprint();
    expect([made.length, classes.has("printing")]).toEqual([9, false]);
    expect([0, 3, 6].map((i) => made[i].options.width)).toEqual([900, 660, 900]);
  });
});
