import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "lmhead-experiments-test-"));
const data = join(folder, "data");
const out = join(folder, "out");

interface Run {
  variant: string;
  seed: number;
  [field: string]: number | string;
}

/** Documents of invented words, so that byte pairs are there to be merged. */
function documents(count: number, offset: number): string {
  const syllables = ["ba", "ker", "lin", "so", "tur", "me", "no", "wa", "shi", "ple"];
  const words = Array.from({ length: 200 }, (_, i) => syllables[i % 10] + syllables[(i * 7 + (i >> 4)) % 10]);
  let state = 1 + offset;
  const next = () => {
    state = (state * 48271) % 2147483647;
    return state;
  };
  const lines = Array.from({ length: count }, () =>
    JSON.stringify({ text: Array.from({ length: 300 }, () => words[next() % 200]).join(" ") }),
  );
  return `${lines.join("\n")}\n`;
}

beforeAll(() => {
  for (const [part, count] of [
    ["train", 20],
    ["validation", 4],
  ] as const) {
    mkdirSync(join(data, part), { recursive: true });
    writeFileSync(join(data, part, "wikitext-2.jsonl"), documents(count, count));
  }
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(script: string, ...args: string[]) {
  const path = fileURLToPath(new URL(`../../experiments/${script}.mjs`, import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [path, ...args], { encoding: "utf8" });
  return { status, stdout, stderr };
}

const smoke = (script: string, ...args: string[]) =>
  start(script, "--smoke", "--threads", "1", "--data", data, "--out", out, ...args);

const read = (name: string): { runs: Run[]; [field: string]: unknown } =>
  JSON.parse(readFileSync(join(out, `${name}.json`), "utf8"));

test("tied: runs, goes on without what is done, and becomes a page", () => {
  const first = smoke("tied");
  expect(first.stderr).toBe("");
  expect(first.status).toBe(0);
  const results = read("tied");
  expect(results.runs).toHaveLength(9);
  const of = (variant: string, field: string) =>
    results.runs.filter((run) => run.variant === variant).map((run) => run[field]);
  // D = 16, F = 48, V = 288: V·D + (4·D² + 3·D·F) + 3 norms of D. The larger body has 2 layers, F = 61, 5 norms.
  expect(of("tied", "parameters")).toEqual([7984, 7984, 7984]);
  expect(of("untied", "parameters")).toEqual([12592, 12592, 12592]);
  expect(of("tied, larger body", "parameters")).toEqual([12592, 12592, 12592]);
  expect(of("untied", "vocabularyParameters")[0]).toBe(2 * 288 * 16);
  for (const run of results.runs) {
    // Some 200 words of about 5 letters: less than 8 bits a byte, more than the log2(200) / 6 of a word.
    expect(run.bitsPerByte).toBeGreaterThan(1);
    expect(run.bitsPerByte).toBeLessThan(8);
    expect(run.tokens).toBe(results.runs.find(({ seed }) => seed === run.seed)?.tokens);
  }
  expect(new Set(of("tied", "bitsPerByte")).size).toBe(3);

  const lost = results.runs[4];
  const kept = results.runs.filter((run) => run !== lost);
  writeFileSync(join(out, "tied.json"), JSON.stringify({ ...results, runs: kept }));
  const second = smoke("tied");
  expect(second.stdout.match(/is there already/g)).toHaveLength(8);
  const again = read("tied").runs;
  expect(again.slice(0, 8)).toEqual(kept);
  expect(again[8]).toMatchObject({
    variant: lost.variant,
    seed: lost.seed,
    tokens: lost.tokens,
    bitsPerByte: lost.bitsPerByte,
  });

  const other = smoke("tied", "--megabytes", "0.03");
  expect(other.status).toBe(2);
  expect(other.stderr).toMatch(/tied\.json: holds runs of another command .* take another --out/);

  const rendered = start("render", "--dir", out);
  expect(rendered.stderr).toBe("");
  const page = readFileSync(join(out, "tied.md"), "utf8");
  expect(page).toContain("**A smoke run");
  expect(page).toContain("| untied | 12,592 | 73 % |");
  expect(readFileSync(join(out, "tied.svg"), "utf8")).toContain(">tied, larger body<");
});

test("vocabulary size: equal bytes and equal tokens are what they say", () => {
  const done = smoke("vocabulary-size", "--seeds", "5");
  expect(done.stderr).toBe("");
  const { runs, text } = read("vocabulary-size") as unknown as {
    runs: Run[];
    text: { training: { bytes: number } };
  };
  expect(runs.map(({ variant }) => variant)).toEqual([
    "272",
    "288",
    "304",
    "272, equal tokens",
    "288, equal tokens",
  ]);
  const [small, middle, large, smallTokens, middleTokens] = runs;
  for (const run of [small, middle, large]) expect(run.bytes).toBe(text.training.bytes);
  expect(large.steps).toBeLessThan(small.steps as number);
  for (const run of [smallTokens, middleTokens]) expect(run.steps).toBe(large.steps);
  expect(smallTokens.bytes).toBe(
    Math.round((text.training.bytes * Number(large.steps)) / Number(small.steps)),
  );
  expect(middleTokens.bytes).toBeGreaterThan(smallTokens.bytes as number);
  // One seed has no spread: no page.
  expect(start("render", "vocabulary-size", "--dir", out)).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("runs of seed 5; expected at least 3 seeds"),
  });
  expect(existsSync(join(out, "vocabulary-size.md"))).toBe(false);
});

test.each([
  [["tied"], /--data: expected the folder that .*prepare\.mjs wrote/],
  [
    ["tied", "--data", join(folder, "none")],
    /wikitext-2\.jsonl: is not there; write it by .*\.\.\/shared\/data\/corpora/,
  ],
  [
    ["tied", "--data", data, "--out", join(folder, "x"), "--megabytes", "9"],
    /bytes of text, but 9000000 are to be read/,
  ],
  [["tied", "--data", data, "--smoke"], /--smoke: give --out too/],
  [["tied", "--data", data, "--seeds", "0,0"], /--seeds: expected different whole numbers/],
  [["tied", "--data", data, "--threads", "0"], /--threads: expected a whole number from 1/],
  [["tied", "--sedes", "1"], /--sedes/],
  [["render", "untied"], /unknown experiment "untied"; expected tied or vocabulary-size/],
  [["render", "tied", "--dir", join(folder, "none")], /tied\.json: is not there; run the experiment first/],
])("%j is refused in one line", ([script, ...args], message) => {
  const { status, stderr } = start(script, ...args);
  expect(stderr).toMatch(message);
  expect(stderr.trim().split("\n")).toHaveLength(1);
  expect(status).toBe(2);
});
