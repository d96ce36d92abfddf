import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { train } from "../../../src/train/loop/train.js";
import {
  begin,
  corpus,
  documents,
  expectNothingAside,
  freshOut,
  goOn,
  refused,
  settings,
  tree,
  wholeRun,
  write,
} from "./runs.js";

const whole = wholeRun();

describe("a folder", () => {
  test("that holds a run is not begun again", () =>
    refused(begin(whole.out), /holds a run already; go on with it by --resume/, whole.out));

  test("without a run is not resumed, nor made", async () => {
    const out = freshOut();
    await refused(goOn(out), /holds no run to resume/);
    expect(existsSync(out)).toBe(false);
  });

  test("with something that training would replace is left alone", async () => {
    const out = freshOut();
    mkdirSync(join(out, "best"), { recursive: true });
    writeFileSync(join(out, "best", "photo"), "mine");
    await refused(begin(out), /holds a best that is of no run/, out);
    expect(tree(out)).toEqual(new Map([["best/photo", "mine"]]));
  });

  test("with what looks like something half replaced is left alone, too", async () => {
    const out = freshOut();
    mkdirSync(out);
    for (const name of ["best.old", "report.html.new", "lock.old"]) writeFileSync(join(out, name), name);
    await refused(begin(out), /holds a (best\.old|report\.html\.new) that is of no run/, out);
    expect(readdirSync(out).sort()).toEqual(["best.old", "lock.old", "report.html.new"]);
    rmSync(out, { recursive: true });
  });

  test("keeps what is no run's, whatever it ends with", async () => {
    const out = freshOut();
    mkdirSync(out);
    for (const name of ["notes.new", "notes.old", "best.txt.old"]) writeFileSync(join(out, name), name);
    await begin(out, { settings: { ...settings, steps: 1, warmupSteps: 0 } });
    for (const name of ["notes.new", "notes.old", "best.txt.old"])
      expect(readFileSync(join(out, name), "utf8")).toBe(name);
  });

  test("inside the corpus is refused: its metrics would be text", async () => {
    const texts = freshOut();
    mkdirSync(texts);
    writeFileSync(join(texts, "a.txt"), documents(20).join("\n\n"));
    await refused(begin(join(texts, "run"), { corpus: texts }), /would become text to train on/);
    await refused(
      begin(join(texts, "run"), { settings: { ...settings, validationCorpus: texts } }),
      /would become text to train on/,
    );
    expect(readdirSync(texts)).toEqual(["a.txt"]);
  });

  test("that another run has taken is refused, and left as it is", async () => {
    const out = freshOut();
    let second: Promise<void> | undefined;
    await begin(out, {
      onStep: () => {
        second ??= refused(goOn(out), /process \d+ on .* trains into it/);
      },
    });
    await second;
    expect(tree(out)).toEqual(whole.tree);
  });

  test("under a file is refused", async () => {
    await refused(begin(corpus), /a file stands there/);
    await refused(begin(join(corpus, "run")), /a file stands there/);
  });

  test("with the lock of a dead process is taken over", async () => {
    const out = freshOut();
    mkdirSync(out);
    // No process has this number: Linux gives none above 2^22.
    writeFileSync(join(out, "lock"), JSON.stringify({ pid: 2 ** 22 + 1, host: hostname() }));
    await begin(out);
    expect(tree(out)).toEqual(whole.tree);
  });
});

describe("texts", () => {
  const bad = (name: string, content: string | Uint8Array, message: RegExp, more = {}) =>
    [name, content, message, more] as const;
  test.each([
    bad("empty.txt", "", /empty\.txt: the corpus is empty/),
    bad("white.txt", " \n\n \t", /the corpus is empty/),
    bad("latin1.txt", Uint8Array.of(97, 98, 0xe9, 99), /latin1\.txt: byte 2 is not UTF-8/),
    bad("tiny.txt", "the cat", /supports a vocabulary of \d+ tokens, not 280: set vocabSize to at most/),
    bad("a.jsonl", '{"body": "x"}', /line 1: has no field "text"; its fields are body/),
    bad("a.csv", "a,b", /expected a file whose name ends in \.txt or \.jsonl/),
    bad("long.txt", documents(9).join("\n\n"), /training: .*need 5001 tokens.*contextLength/, {
      contextLength: 5000,
    }),
    bad("few.txt", documents(9).join("\n\n"), /training: .*a batch has 999.*batchSize/, { batchSize: 999 }),
    bad("large.txt", documents(9).join("\n\n"), /supports a vocabulary of \d+ tokens, not 60000/, {
      vocabSize: 60000,
    }),
  ])("%s is refused, and leaves no run", async (name, content, message, more) => {
    const out = freshOut();
    const text = write(name, content);
    await refused(begin(out, { corpus: text, settings: { ...settings, ...more } }), message, out);
    expect(existsSync(join(out, "train.json"))).toBe(false);
    // The folder is as good as new.
    await begin(out);
    for (const [file, bytes] of whole.tree)
      if (!file.startsWith("ids")) expect(tree(out).get(file), file).toBe(bytes);
  });

  test("that changed since the run began are told before anything is tokenised", async () => {
    const out = freshOut();
    const text = write("text.txt", documents(40).join("\n\n"));
    await begin(out, { corpus: text, settings: { ...settings, steps: 2, warmupSteps: 0 } });
    const before = tree(out);
    writeFileSync(text, documents(40, 2).join("\n\n"));
    await refused(goOn(out), /the text has changed since the run began/, out);
    expect(tree(out)).toEqual(before);
    const other = write("other.txt", documents(40, 3).join("\n\n"));
    await refused(goOn(out, { corpus: other }), /the text has changed since the run began/, out);
    rmSync(text);
    await refused(goOn(out), /no such file/, out);
  });

  test("to validate on may be others, but not the same", async () => {
    const out = freshOut();
    const other = write("other.txt", documents(10, 5).join("\n\n"));
    await begin(out, { settings: { ...settings, steps: 2, warmupSteps: 0, validationCorpus: other } });
    expect(readdirSync(join(out, "ids"))).toHaveLength(2);
    await goOn(out);
    const same = { ...settings, validationCorpus: write("same.txt", readFileSync(corpus)) };
    await refused(begin(freshOut(), { settings: same }), /same\.txt holds the same text as .*corpus\.txt/);
    // The file stands in the folder that is trained on.
    const texts = freshOut();
    mkdirSync(texts);
    writeFileSync(join(texts, "a.txt"), documents(20).join("\n\n"));
    writeFileSync(join(texts, "held.txt"), documents(10, 5).join("\n\n"));
    const inside = { ...settings, validationCorpus: join(texts, "held.txt") };
    await refused(
      begin(freshOut(), { corpus: texts, settings: inside }),
      /holds the same text as .*held\.txt/,
    );
  });

  test("that are all the same leave nothing to validate on", async () => {
    const text = write("same.txt", Array(30).fill(documents(1)[0]).join("\n\n"));
    await refused(begin(freshOut(), { corpus: text }), /30 documents all have the same text/);
  });
});

describe("settings that do not go together are said before the text is read", () => {
  test.each([
    [{ heads: 3 }, /heads: expected a number that divides hiddenSize 16/],
    [{ family: "gpt2", kvHeads: 1 }, /kvHeads/],
    [{ warmupSteps: 12 }, /warmupSteps/],
    [{ schedule: "wsd", decaySteps: 11 }, /decaySteps/],
    [{ init: "/nothing/there" }, /init and vocabSize were both given/],
    [{ freeze: "body" }, /freeze: a body of random weights/],
    [{ learningRate: Number.NaN }, /learningRate: expected a number/],
  ])("%j", async (more, message) => {
    const out = freshOut();
    const never = write("never.txt", Uint8Array.of(0xff));
    await refused(begin(out, { corpus: never, settings: { ...settings, ...more } as never }), message);
    expect(existsSync(out)).toBe(false);
  });

  test("and so are bad options", async () => {
    const out = freshOut();
    await refused(train({ corpus, out, setings: {} } as never), /unknown option "setings"/);
    await refused(train({ out }), /no corpus/);
    await refused(train({ corpus, out: "" }), /out: expected/);
    await refused(goOn(whole.out, { settings }), /resume goes on with the run's own settings/);
    await refused(begin(out, { device: "gpu" as never }), /device/);
    await refused(begin(out, { threads: 0 }), /threads/);
  });

  test("a prompt that no sample can begin with is said before the first step", async () => {
    const long = { ...settings, prompts: [documents(1)[0]] };
    await refused(begin(freshOut(), { settings: long }), /prompts: ".*": the prompt has \d+ tokens/);
  });
});

test("nothing written aside is left in any run's folder", expectNothingAside);
