import pc from "picocolors";

export type Colours = ReturnType<typeof pc.createColors>;

/** What rendering must know of an output stream. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Colours on a terminal only, and never where NO_COLOR (https://no-color.org) is set or the terminal is dumb. */
export function colours(output: Output, env: NodeJS.ProcessEnv = process.env): Colours {
  return pc.createColors(output.isTTY === true && !env.NO_COLOR && env.TERM !== "dumb");
}

const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
const emoji = /\p{Emoji_Presentation}|\p{Extended_Pictographic}\uFE0F|\p{Regional_Indicator}{2}|\u20E3/u;
const zeroWidth = /^[\p{Mn}\p{Me}\p{Cf}\p{Cc}]+$/u;

/** East Asian Wide and Fullwidth blocks (Unicode TR11), first and last code point. */
const wide: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x2e80, 0x303e],
  [0x3041, 0x33ff],
  [0x3400, 0x4dbf],
  [0x4e00, 0x9fff],
  [0xa000, 0xa4cf],
  [0xa960, 0xa97f],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe30, 0xfe6f],
  [0xff00, 0xff60],
  [0xffe0, 0xffe6],
  [0x1b000, 0x1b2ff],
  [0x20000, 0x3fffd],
];

/** Columns that `text` takes on a terminal: two for a wide character or an emoji, none for a combining mark. */
export function displayWidth(text: string): number {
  // Cutting into graphemes takes minutes for the table of a long text.
  if (/^[ -~]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += graphemeWidth(segment);
  return width;
}

function graphemeWidth(grapheme: string): number {
  if (zeroWidth.test(grapheme)) return 0;
  if (emoji.test(grapheme)) return 2;
  const code = grapheme.codePointAt(0)!;
  return wide.some(([first, last]) => code >= first && code <= last) ? 2 : 1;
}

/** Cuts to at most `columns`, between graphemes, with "…" where something was cut. */
export function truncate(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  let out = "";
  let width = 0;
  for (const { segment } of graphemes.segment(text)) {
    const next = graphemeWidth(segment);
    if (width + next > columns - 1) break;
    out += segment;
    width += next;
  }
  return `${out}…`;
}

const escapes: Readonly<Record<string, string>> = {
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\u001b": "\\e",
};

/** Text on one line: line ends and other characters that cannot be seen are escaped; the plain space stays. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zs}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/gu, (char) => {
    if (char === " " || char === "\u200d") return char; // U+200D joins the parts of one emoji
    return escapes[char] ?? `\\u{${char.codePointAt(0)!.toString(16)}}`;
  });
}

/** A token's text as one can see it: `printable`, and spaces as "·". */
export function visible(text: string): string {
  return printable(text).replaceAll(" ", "·");
}

/** Text from a model made safe for a terminal: an escape sequence must not reach it; line ends and tabs may. */
export function safe(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (char) =>
    char === "\r" ? char : printable(char),
  );
}

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** A bar of `fraction` (0 to 1) of `columns`, to an eighth of a column. */
export function bar(fraction: number, columns: number): string {
  const units = Math.round(Math.min(1, Math.max(0, fraction)) * columns * 8);
  return "█".repeat(Math.floor(units / 8)) + eighths[units % 8];
}

/** A probability as a percentage of about three figures; what would round to nothing or to all says so. */
export function percent(probability: number): string {
  const value = probability * 100;
  if (value === 0) return "0%";
  if (value < 0.01) return "<0.01%";
  if (value >= 99.95 && probability < 1) return ">99.9%";
  return value < 10 ? `${value.toFixed(2)}%` : `${value.toFixed(1)}%`;
}

/** A number with `digits` decimals; "-inf" for what is masked. */
export function fixed(value: number, digits: number): string {
  if (value === -Infinity) return "-inf";
  return value.toFixed(digits);
}

/** 1234567 → "1,234,567". */
export function grouped(value: number): string {
  return value.toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Bytes for people: "93.8 MiB". */
export function bytes(value: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
  /** Columns at most; longer cells are cut with "…". */
  readonly max?: number;
}

/**
 * A table in plain text. Widths are those of a terminal, so cells may hold any script; colour is put on by `paint`
 * after the widths are known.
 */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  paint: (cell: string, column: number, row: number) => string = (cell) => cell,
): string {
  const cells = rows.map((row) => row.map((cell, c) => truncate(cell, columns[c].max ?? Infinity)));
  const widths = columns.map(({ title }, c) =>
    cells.reduce((most, row) => Math.max(most, displayWidth(row[c])), displayWidth(title)),
  );
  const line = (row: readonly string[], r: number): string =>
    row
      .map((cell, c) => {
        const pad = " ".repeat(widths[c] - displayWidth(cell));
        const painted = cell === "" ? "" : paint(cell, c, r);
        return columns[c].align === "right" ? pad + painted : painted + pad;
      })
      .join("  ")
      .trimEnd();
  const titles = columns.some(({ title }) => title !== "")
    ? [
        line(
          columns.map(({ title }) => title),
          -1,
        ),
      ]
    : [];
  return [...titles, ...cells.map(line)].join("\n");
}

/** The first and last numbers of a vector: "[0.0123, -1.4500, … , 0.3331]". */
export function vector(values: ArrayLike<number>, shown = 6): string {
  const text = (value: number): string => fixed(value, 4);
  const all = Array.from(values);
  if (all.length <= shown) return `[${all.map(text).join(", ")}]`;
  return `[${all
    .slice(0, shown - 1)
    .map(text)
    .join(", ")}, … , ${text(all[all.length - 1])}]`;
}

/**
 * JSON as the contract has it: what JSON cannot hold of the real numbers, ±Infinity, becomes null.
 * @throws Error for NaN, which is no answer and must not pass for one.
 */
export function json(value: unknown): string {
  return JSON.stringify(value, (key, item: unknown) => {
    if (Number.isNaN(item)) throw new Error(`the result's field "${key}" is not a number`);
    return item === Infinity || item === -Infinity ? null : item;
  });
}
