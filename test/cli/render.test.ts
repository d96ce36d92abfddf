import { describe, expect, it } from "vitest";
import { paintSurprise } from "../../src/cli/commands/score.js";
import { describeFailure } from "../../src/cli/exit.js";
import { ProgressLine } from "../../src/cli/load.js";
import {
  bar,
  bytes,
  colours,
  displayWidth,
  fixed,
  grouped,
  json,
  percent,
  printable,
  safe,
  table,
  truncate,
  vector,
  visible,
} from "../../src/cli/render.js";
import { AbortError, InputError } from "../../src/errors.js";

describe("displayWidth", () => {
  it.each([
    ["", 0],
    ["cat", 3],
    ["漢字", 4],
    ["한국", 4],
    ["ｆｕｌｌ", 8],
    ["e\u0301", 1],
    ["👩‍👩‍👧", 2],
    ["🇩🇪", 2],
    ["❤️", 2],
    ["1️⃣", 2],
    ["\u200b", 0],
    ["·�…", 3],
  ])("%j takes %i", (text, width) => expect(displayWidth(text)).toBe(width));
});

describe("text of tokens", () => {
  it("shows what cannot be seen", () => {
    expect(visible(" the\n\tcat")).toBe("·the\\n\\tcat");
    expect(visible("\u001b[31m")).toBe("\\e[31m");
    expect(visible("a\u0000\u202eb\u00a0")).toBe("a\\u{0}\\u{202e}b\\u{a0}");
    expect(visible("👩‍👧")).toBe("👩‍👧");
    expect(visible("\ud800")).toBe("\\u{d800}");
    expect(printable(" a b\n")).toBe(" a b\\n");
  });
  it("keeps a model's escape sequences from the terminal, and its line ends", () => {
    expect(safe("a\nb\tc\u001b[2J\u009b")).toBe("a\nb\tc\\e[2J\\u{9b}");
  });
  it("cuts between graphemes", () => {
    expect(truncate("hello", 5)).toBe("hello");
    expect(truncate("hello", 4)).toBe("hel…");
    expect(truncate("漢字漢字", 5)).toBe("漢字…");
    expect(truncate("a👩‍👩‍👧b", 3)).toBe("a…");
  });
});

describe("numbers", () => {
  it("bar", () => {
    expect(bar(1, 4)).toBe("████");
    expect(bar(0.5, 4)).toBe("██");
    expect(bar(1 / 32, 4)).toBe("▏");
    expect([bar(0, 4), bar(-1, 4), bar(2, 2)]).toEqual(["", "", "██"]);
  });
  it("percent, fixed, grouped, bytes, vector", () => {
    expect([0, 1e-9, 0.0712, 0.5, 0.99999, 1].map(percent)).toEqual([
      "0%",
      "<0.01%",
      "7.12%",
      "50.0%",
      ">99.9%",
      "100.0%",
    ]);
    expect([fixed(-Infinity, 2), fixed(1.005, 1)]).toEqual(["-inf", "1.0"]);
    expect([1, 999, 1000, 1234567].map(grouped)).toEqual(["1", "999", "1,000", "1,234,567"]);
    expect([12, 2048, 98362432].map(bytes)).toEqual(["12 bytes", "2.0 KiB", "93.8 MiB"]);
    expect(vector([1, 2, 3])).toBe("[1.0000, 2.0000, 3.0000]");
    expect(
      vector(
        Array.from({ length: 9 }, (_, i) => i),
        3,
      ),
    ).toBe("[0.0000, 1.0000, … , 8.0000]");
  });
  it("json: infinity is null, NaN is an error", () => {
    expect(json({ a: -Infinity, b: [1.5] })).toBe('{"a":null,"b":[1.5]}');
    expect(() => json({ a: Number.NaN })).toThrow(/"a"/);
  });
});

describe("table", () => {
  it("aligns any script", () => {
    const text = table(
      [{ title: "id", align: "right" }, { title: "token", max: 6 }, { title: "p" }],
      [
        ["1", "漢字", "x"],
        ["22", "cat", "y"],
        ["3", "a long one", "z"],
      ],
    );
    expect(text.split("\n")).toEqual(["id  token   p", " 1  漢字    x", "22  cat     y", " 3  a lon…  z"]);
  });
  it("paints after measuring", () => {
    const text = table(
      [{ title: "" }, { title: "" }],
      [
        ["a", "b"],
        ["cc", "d"],
      ],
      (cell, column) => (column === 0 ? `<${cell}>` : cell),
    );
    expect(text).toBe("<a>   b\n<cc>  d");
  });
});

describe("colours", () => {
  const on = (isTTY: boolean, env: NodeJS.ProcessEnv): boolean => colours({ isTTY }, env).isColorSupported;
  it("on a terminal only, and not against NO_COLOR", () => {
    expect(on(true, {})).toBe(true);
    expect(on(false, {})).toBe(false);
    expect(on(false, { FORCE_COLOR: "1" })).toBe(false);
    expect(on(true, { NO_COLOR: "1" })).toBe(false);
    expect(on(true, { NO_COLOR: "" })).toBe(true);
    expect(on(true, { TERM: "dumb" })).toBe(false);
  });
  it("surprise: the first token has none, lines are painted one by one", () => {
    const colour = colours({ isTTY: true }, {});
    expect(paintSurprise(colour, "a", null)).toBe("a");
    expect(paintSurprise(colour, "a", -0.1)).toBe(colour.gray("a"));
    expect(paintSurprise(colour, "a\nb", -20)).toBe(`${colour.bgRed("a")}\n${colour.bgRed("b")}`);
    expect(paintSurprise(colour, "a", -Infinity)).toBe(colour.bgRed("a"));
  });
});

describe("progress", () => {
  const record = (isTTY: boolean) => {
    const written: string[] = [];
    return { written, stream: { isTTY, write: (text: string) => written.push(text) > 0 } };
  };
  it("is for terminals", () => {
    const pipe = record(false);
    const line = new ProgressLine(pipe.stream);
    line.show("loading");
    line.clear();
    expect(pipe.written).toEqual([]);
  });
  it("never wraps, and shows no control characters", () => {
    const terminal = record(true);
    new ProgressLine({ ...terminal.stream, columns: 10 }).show("a very long\nline");
    expect(terminal.written).toEqual(["\r\u001b[Ka very l…"]);
  });
  it("is wiped away", () => {
    const terminal = record(true);
    const line = new ProgressLine(terminal.stream);
    line.show("loading");
    line.show("loading");
    line.clear();
    line.clear();
    expect(terminal.written).toEqual(["\r\u001b[Kloading", "\r\u001b[K"]);
  });
});

describe("describeFailure", () => {
  it("InputError: one line, 2", () => {
    expect(describeFailure(new InputError("a\nb\u001b[2J"), false)).toEqual({
      message: "lmhead: a b [2J",
      code: 2,
    });
  });
  it("abort: 130", () => expect(describeFailure(new AbortError(), false).code).toBe(130));
  it("the file system's errors are input", () => {
    const error = Object.assign(new Error("ENOENT: no such file"), { code: "ENOENT", path: "/x/y" });
    expect(describeFailure(error, false)).toEqual({
      message: "lmhead: /x/y: no such file or folder",
      code: 2,
    });
  });
  it("anything else is ours: 1, and the stack on request", () => {
    const failure = describeFailure(new TypeError("x is not a function"), false);
    expect(failure.code).toBe(1);
    expect(failure.message).toMatch(
      /^lmhead: internal error: x is not a function \(please report it; LMHEAD_DEBUG=1/,
    );
    expect(failure.message).not.toContain("\n");
    expect(describeFailure(new TypeError("x"), true).message).toContain("\n    at ");
    expect(describeFailure("a string", false).code).toBe(1);
  });
});
