import { spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { table } from "../../src/train/loop/settings-table.js";
import { documents, settings, tree } from "../train/loop/runs.js";
import { built, type Ended, expectRefused, lmhead, type RunOptions } from "./process.js";

const faults = new URL("train-faults.mjs", import.meta.url).href;

describe.runIf(built)("lmhead train", () => {
  let folder: string;
  let corpus: string;
  let config: string;
  /** A run that never stopped. */
  let straight: string;
  let whole: Map<string, string>;
  let first: Ended;
  let made = 0;

  const freshOut = (): string => {
    const parent = join(folder, String(made++));
    mkdirSync(parent);
    return join(parent, "run");
  };
  const begin = (out: string, more: readonly string[] = [], options?: RunOptions) =>
    lmhead(["train", corpus, "--out", out, "--config", config, "--threads", "1", ...more], options);
  const goOn = (out: string, more: readonly string[] = [], options?: RunOptions) =>
    lmhead(["train", "--out", out, "--resume", ...more], options);
  const faulty = (out: string, fault: "kill" | "full", at: number): RunOptions => ({
    env: { NODE_OPTIONS: `--import=${faults}`, FAULT: fault, FAULT_AT: String(at), FAULT_FOLDER: out },
  });

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "lmhead-cli-train-"));
    corpus = join(folder, "corpus.txt");
    writeFileSync(corpus, documents(40).join("\n\n"));
    config = join(folder, "config.json");
    writeFileSync(config, JSON.stringify({ $schema: "./schema.json", ...settings }));
    straight = freshOut();
    const count = join(folder, "count.txt");
    first = await begin(straight, [], {
      env: { NODE_OPTIONS: `--import=${faults}`, FAULT_FOLDER: straight, FAULT_COUNT: count },
    });
    whole = tree(straight);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("says what it does on stderr, and what came of it on stdout", () => {
    expect(first.code).toBe(0);
    const loss = String.raw`validation loss \d\.\d{4}`;
    expect(first.stdout).toMatch(
      new RegExp(
        String.raw`^12 steps done in \d+s; best model: (\S+) \(${loss} after step 12\)\nreport: \S+report\.html\ntry: lmhead generate ".*" --model \1\n$`,
      ),
    );
    const lines = first.stderr.trimEnd().split("\n");
    expect(lines.slice(0, 2)).toEqual([
      expect.stringMatching(/^llama of 8,\d{3} parameters, 280 tokens, on WebAssembly SIMD, 1 thread$/),
      expect.stringMatching(/^[\d,]+ tokens to train on, \d+ to validate; 12 steps$/),
    ]);
    expect(lines.slice(2).map((line) => line.replace(/:.*/, ""))).toEqual(
      ["3", "6", "6 writes", "6 writes", "9", "12", "12 writes", "12 writes"].map((step) => `step ${step}`),
    );
    // Neither escapes nor wiped lines where no terminal is.
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be there
    expect(first.stderr + first.stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f]|\\e/);
  });

  it("--json prints the result alone, and a finished run says that nothing is left", async () => {
    const { code, stdout, stderr } = await goOn(straight, ["--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      steps: 12,
      best: { step: 12, loss: expect.any(Number) },
      model: join(straight, "best"),
      report: join(straight, "report.html"),
    });
    expect(stderr).toMatch(/^12 steps done: nothing is left to do\n/);
    expect(tree(straight)).toEqual(whole);
  });

  it("the model it leaves speaks", async () => {
    const { code, stdout } = await lmhead(["next", "the cat", "--model", join(straight, "best")]);
    expect(code).toBe(0);
    expect(stdout).toContain("%");
  });

  describe("killed at a change to the file system, and resumed on other threads, ends as if it had not been", () => {
    const count = () => Number(readFileSync(join(folder, "count.txt"), "utf8"));
    const hits = 12;
    it.each(Array.from({ length: hits }, (_, i) => i))("part %i", async (i) => {
      expect(count()).toBeGreaterThan(200);
      // One of each twelfth of the run, another each time.
      const at = 1 + Math.floor(((i + Math.random()) / hits) * count());
      const out = freshOut();
      const killed = await begin(out, ["--threads", String(1 + (i % 2))], faulty(out, "kill", at));
      expect(killed.code, `killed at ${at}`).toBe(null);
      // A run that had not begun is begun.
      const again = existsSync(join(out, "train.json"))
        ? await goOn(out, ["--threads", String(1 + (i % 3))])
        : await begin(out);
      expect(again.code, again.stderr).toBe(0);
      expect(tree(out), `killed at ${at}`).toEqual(whole);
    });
  });

  it("killed again and again at any moment it comes to the same end", async () => {
    const out = freshOut();
    let ended: Ended = { code: null, stdout: "", stderr: "" };
    for (let kills = 0; ended.code !== 0; kills++) {
      const again = existsSync(join(out, "train.json"));
      const args = again ? ["--out", out, "--resume"] : [corpus, "--out", out, "--config", config];
      // From time to time it is left alone, or it would never come far enough to save.
      const after = kills % 4 === 3 ? undefined : 150 + Math.random() * 500;
      ended = await killedAfter(["train", ...args, "--threads", String(1 + (kills % 3))], after);
      expect(ended.code === 0 || ended.code === null, ended.stderr).toBe(true);
    }
    expect(tree(out)).toEqual(whole);
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s: saves, says so in one line, exit code %i", async (signal, code) => {
    const out = freshOut();
    const ended = await signalledAt(["train", corpus, "--out", out, "--config", config], /step 3: /, signal);
    expect(ended.code).toBe(code);
    expect(ended.stdout).toBe("");
    const lines = ended.stderr.trimEnd().split("\n");
    const [, step, path] = /^stopped after step (\d+); saved (\S+); go on with --resume$/.exec(
      lines.at(-1)!,
    )!;
    expect(path).toBe(join(out, `step-${step.padStart(6, "0")}`));
    expect(existsSync(path)).toBe(true);
    expect(existsSync(join(out, "lock"))).toBe(false);
    expect(ended.stderr).not.toContain("interrupted");
    expect((await goOn(out)).code).toBe(0);
    expect(tree(out)).toEqual(whole);
  });

  describe("a disk that is full", () => {
    it.each([0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95])(
      "after %f of the run: one line, and nothing that was whole is lost",
      async (part) => {
        const out = freshOut();
        const at = Math.ceil(part * Number(readFileSync(join(folder, "count.txt"), "utf8")));
        const { code, stdout, stderr } = await begin(out, [], faulty(out, "full", at));
        expect({ code, stdout }, stderr).toEqual({ code: 2, stdout: "" });
        const last = stderr.trimEnd().split("\n").at(-1)!;
        expect(last).toMatch(/^lmhead: .*(the disk is full; make room, then go on with --resume|ENOSPC)/);
        expect(stderr.match(/^lmhead:/gm)).toHaveLength(1);
        const again = existsSync(join(out, "train.json")) ? await goOn(out) : await begin(out);
        expect(again.code, again.stderr).toBe(0);
        expect(again.stderr).not.toMatch(/damaged|going back/);
        expect(tree(out)).toEqual(whole);
      },
    );
  });

  it("two runs into one folder: the second is refused", async () => {
    const out = freshOut();
    const running = begin(out, ["--steps", "400"]);
    while (!existsSync(join(out, "train.json"))) await new Promise((resolve) => setTimeout(resolve, 10));
    await expectRefused(["train", "--out", out, "--resume"], /process \d+ on .* trains into it; wait for it/);
    await expectRefused(["train", corpus, "--out", out], /trains into it/);
    expect((await running).code).toBe(0);
  });

  describe("settings", () => {
    it("come from flags before the file, and a flag drops what in the file does not go with it", async () => {
      const out = freshOut();
      const more = [
        "--steps",
        "2",
        "--warmup-steps",
        "0",
        "--no-tied",
        "--separator",
        "\n\n",
        "--optimizer",
        "sgd",
      ];
      const prompts = ["--prompt", "a b", "--prompt", "c"];
      const file = join(folder, "flags.json");
      writeFileSync(file, JSON.stringify({ ...settings, beta1: 0.8 }));
      const { code, stderr } = await lmhead([
        "train",
        corpus,
        "--out",
        out,
        "--config",
        file,
        ...more,
        ...prompts,
      ]);
      expect(code, stderr).toBe(0);
      const plan = JSON.parse(readFileSync(join(out, "train.json"), "utf8"));
      expect(plan.settings).toMatchObject({
        steps: 2,
        warmupSteps: 0,
        tied: false,
        separator: "\n\n",
        optimizer: "sgd",
        prompts: ["a b", "c"],
        vocabSize: settings.vocabSize,
        split: "file",
        beta1: 0.9,
      });
    });

    it("have a flag each, with its default in the help", async () => {
      const { stdout } = await lmhead(["train", "--help"]);
      const text = stdout.replace(/\s+/g, " ");
      for (const name of Object.keys(table)) {
        const flag = name === "prompts" ? "prompt" : name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);
        expect(text).toContain(`--${flag} `);
      }
      expect(text).toContain("--no-tied");
      expect(text).toContain("tiny 1000, small 5000");
    });

    it.each([
      [["--steps", "0"], /--steps: expected a whole number/],
      [["--steps", "1.5"], /--steps: expected a whole number/],
      [["--learning-rate", "NaN"], /--learning-rate: expected a number/],
      [["--validation", "1"], /--validation: expected a number above 0 and at most 0\.99/],
      [["--optimizer", "adam"], /--optimizer: expected one of adamw, muon, lion, sgd, got "adam"/],
      [["--prompt", ""], /--prompt: expected a text/],
      [["--stepz", "3"], /unknown option '--stepz'.*--steps/],
      [["--steps", "3", "--epochs", "1"], /steps and epochs were both given/],
      [["--momentum", "0.5"], /momentum is for optimizer sgd, muon/],
      [["--freeze", "body"], /freeze: .*give init too/],
      [["--tokenizer", ""], /tokenizer: expected a text/],
    ])("%j are refused", (flags, message) =>
      expectRefused(["train", corpus, "--out", join(folder, "never"), ...flags], message),
    );

    it.each([
      ["{", /is not valid JSON/],
      ["[]", /expected a JSON object, got an array/],
      ['{"stps": 3}', /bad\.json: unknown setting "stps"; the settings are preset,/],
      ['{"steps": "3"}', /bad\.json: steps: expected a whole number from 1, got "3"/],
      ['{"steps": 3, "epochs": 1}', /bad\.json: steps and epochs were both given/],
      ['{"prompts": "a"}', /bad\.json: prompts: expected a list of texts, got "a"/],
      ['{"tied": 1}', /bad\.json: tied: expected true or false, got 1/],
      ['{"name": {}}', /bad\.json: name: expected a text, got an object/],
    ])("of a file that says %s are refused", (text, message) => {
      const file = join(folder, "bad.json");
      writeFileSync(file, text);
      return expectRefused(["train", corpus, "--out", join(folder, "never"), "--config", file], message);
    });

    it("of a file may be whole with a flag alone", async () => {
      const file = join(folder, "half.json");
      const { beta1: _, ...rest } = { ...settings, beta1: 0.9 };
      writeFileSync(file, JSON.stringify({ ...rest, steps: 2, warmupSteps: 0, momentum: 0.5 }));
      const out = freshOut();
      const args = ["train", corpus, "--out", out, "--config", file];
      await expectRefused(args, /half\.json: momentum is for optimizer sgd, muon/);
      const { code, stderr } = await lmhead([...args, "--optimizer", "sgd"]);
      expect(code, stderr).toBe(0);
      const plan = JSON.parse(readFileSync(join(out, "train.json"), "utf8"));
      expect(plan.settings).toMatchObject({ optimizer: "sgd", momentum: 0.5 });
    });

    it("of a file that is not there, or a folder, are refused", async () => {
      const args = ["train", corpus, "--out", join(folder, "never"), "--config"];
      await expectRefused([...args, join(folder, "nothing.json")], /nothing\.json: no such file/);
      await expectRefused([...args, folder], /is a folder, a file was expected/);
    });

    it("do not go with --resume", () =>
      expectRefused(
        ["train", "--out", straight, "--resume", "--batch-size", "3", "--prompt", "x"],
        /leave out --batch-size, --prompt/,
      ));

    it("--schema prints their schema", async () => {
      const { code, stdout } = await lmhead(["train", "--schema"]);
      expect(code).toBe(0);
      expect(Object.keys(JSON.parse(stdout).properties)).toEqual(["$schema", ...Object.keys(table)]);
    });
  });

  describe("bad input: exit code 2, one line, no stack", () => {
    const never = () => join(folder, "never");
    it("no folder, no corpus, two corpora", async () => {
      await expectRefused(["train", corpus], /no folder for the run: give --out DIR/);
      await expectRefused(["train", "--out", never()], /no corpus: expected/);
      await expectRefused(["train", corpus, corpus, "--out", never()], /too many arguments/);
      expect(existsSync(never())).toBe(false);
    });
    it("a folder that holds a run, --resume without one", async () => {
      await expectRefused(
        ["train", corpus, "--out", straight],
        /holds a run already; go on with it by --resume/,
      );
      await expectRefused(["train", "--out", never(), "--resume"], /holds no run to resume/);
    });
    it("all checkpoints damaged", async () => {
      const out = freshOut();
      cpSync(straight, out, { recursive: true });
      for (const name of readdirSync(out).filter((name) => name.startsWith("step-")))
        writeFileSync(join(out, name, "optimizer.safetensors"), "");
      await expectRefused(["train", "--out", out, "--resume"], /no checkpoint is whole/);
    });
    it("a learning rate far too high", async () => {
      const { code, stdout, stderr } = await begin(freshOut(), ["--learning-rate", "1e10"]);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toMatch(
        /\nlmhead: step \d+: .*lower learning rate.*\(the last good checkpoint: .*\)\n$/,
      );
      expect(stderr).not.toMatch(/\bat .*:\d+:\d+/);
    });
  });
});

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** Ends it by SIGKILL after so many milliseconds, if ever. */
function killedAfter(args: readonly string[], ms: number | undefined): Promise<Ended> {
  return run(args, (child) => {
    const timer = ms === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), ms);
    child.on("exit", () => clearTimeout(timer));
  });
}

/** Sends a signal when its stderr says something. */
function signalledAt(args: readonly string[], text: RegExp, signal: NodeJS.Signals): Promise<Ended> {
  return run(args, (child) => {
    let said = "";
    let sent = false;
    child.stderr!.on("data", (part: Buffer) => {
      said += String(part);
      if (!sent && text.test(said)) sent = child.kill(signal);
    });
  });
}

function run(args: readonly string[], use: (child: ReturnType<typeof spawn>) => void): Promise<Ended> {
  const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.on("data", (part: Buffer) => {
    stderr += String(part);
  });
  use(child);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
}
