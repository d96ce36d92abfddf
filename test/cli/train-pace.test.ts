import { expect, test } from "vitest";
import { Pace } from "../../src/cli/pace.js";

/** A line after each of these moments, in seconds; 100 tokens a step. */
function lines(moments: readonly number[], steps: number): string[] {
  let now = 0;
  const pace = new Pace(() => 1000 * now);
  return moments.map((at, i) => {
    now = at;
    return pace.line(i + 1, steps, 2, 100, 200);
  });
}

test("the first step tells no speed, the second the time between the two", () => {
  const [first, second] = lines([5, 7], 12);
  expect(first).not.toMatch(/tokens\/s|left/);
  expect(second).toContain("50 tokens/s  20s left");
});

test("speed and time left are those of the last twenty seconds", () => {
  // Ten slow steps of 10 s, then fast ones of 1 s.
  const moments = Array.from({ length: 50 }, (_, i) => (i < 10 ? 10 * i : 90 + (i - 9)));
  const all = lines(moments, 100);
  expect(all[9]).toContain("10 tokens/s  15m 00s left");
  expect(all[49]).toContain("100 tokens/s  50s left");
});

test("two steps further apart than the window, or none apart, make no nonsense", () => {
  expect(lines([0, 300, 600], 4)[2]).toContain("left");
  expect(lines([0, 300, 600], 4)[2]).toContain("5m 00s left");
  expect(lines([1, 1], 3)[1]).not.toMatch(/NaN|Infinity|left/);
});

test("a line fits the terminal but for its last column, and narrow ones too", () => {
  const pace = new Pace(() => 0);
  for (const columns of [1, 2, 10, 40, 80])
    expect(pace.line(1, 9, 2, 1, columns).length).toBeLessThanOrEqual(Math.max(1, columns - 1));
});
