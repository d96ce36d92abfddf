/** Long series of numbers, made fit for a plot. */

/** A moving average looks back over about this share of a series. */
const WINDOWS = 50;

/**
 * The factor f of `smoothed` for a series of `n` numbers, in [0, 0.9999] and with four decimals, so that it is what a
 * page says it is. It looks back over about a fiftieth of the series; up to 50 numbers it is 0, which smooths nothing.
 */
export function smoothingFactor(n: number): number {
  return Math.min(0.9999, Math.max(0, Math.round((1 - WINDOWS / n) * 1e4) / 1e4));
}

/**
 * The exponential moving average m ← f·m + (1 − f)·x, from the first value on. After t values f is at most
 * (1 + t) / (10 + t), so that the average does not lag behind a steep beginning (TensorFlow:
 * `ExponentialMovingAverage` with `num_updates`).
 * @param factor f in [0, 1)
 */
export function smoothed(values: readonly number[], factor: number): number[] {
  let mean = values[0];
  return values.map((value, t) => {
    const f = Math.min(factor, (1 + t) / (10 + t));
    mean = f * mean + (1 - f) * value;
    return mean;
  });
}

/**
 * Indices, ascending, of at most `most` of the values: all of them when they are so few. Otherwise the first, the last,
 * and the smallest and the largest of each bucket: of buckets of equal length, and, for a logarithmic axis, of buckets
 * whose ends grow by one ratio. So no spike is lost, and every value left out lies between two close to it.
 * @param most from 6
 */
export function thin(values: readonly number[], most: number): number[] {
  const n = values.length;
  if (n <= most) return Array.from(values.keys());
  const kept = new Set([0, n - 1]);
  const buckets = Math.floor((most - 2) / 4);
  const keepExtremes = (end: (bucket: number) => number) => {
    for (let b = 0; b < buckets; b++) {
      const from = end(b);
      const to = end(b + 1);
      if (from === to) continue;
      let smallest = from;
      let largest = from;
      for (let i = from + 1; i < to; i++) {
        if (values[i] < values[smallest]) smallest = i;
        if (values[i] > values[largest]) largest = i;
      }
      kept.add(smallest).add(largest);
    }
  };
  keepExtremes((bucket) => Math.round((n * bucket) / buckets));
  keepExtremes((bucket) => Math.round(n ** (bucket / buckets)));
  return [...kept].sort((a, b) => a - b);
}
