/**
 * A number for people, with three or four significant digits: "3.412", "0.900", "50,257", "3e-4", "1.234e9".
 * The page of a report holds this function's text, so it refers to nothing outside itself.
 */
export function figures(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e6) return Number(value.toPrecision(4)).toExponential().replace("e+", "e");
  return size >= 1000
    ? Math.round(value).toLocaleString("en-US")
    : value.toLocaleString("en-US", { minimumSignificantDigits: 3, maximumSignificantDigits: 4 });
}

/** 1234567 → "1,234,567". */
export function grouped(value: number): string {
  return value.toLocaleString("en-US");
}

/** What is done of `total`, in whole percent, rounded down: "100%" is all of it. */
export function share(done: number, total: number): string {
  return `${Math.floor((100 * done) / total)}%`;
}
