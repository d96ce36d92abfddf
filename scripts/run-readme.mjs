// Runs README.md's code as its reader would: in a new project where the packed tarball is installed.
//
//   ```sh run     a shell block; a "```text output" block right after it must equal what it printed
//   ```ts run     a program; its output is compared in the same way
//   ```sh setup   the command that sets a clone up, and
//   ```sh test    the project's test command: .ci/run takes both from here
//
// A block that names ../shared is skipped, with a line that says so, where that folder is absent.
// Numbers may differ by 2 % from the printed ones (times are not shown in README); words may not.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hasShared, installTarball, root } from "./tarball.mjs";

const readme = readFileSync(join(root, "README.md"), "utf8");
const blocks = [...readme.matchAll(/^```(\w+) (run|output|setup|test)\n([\s\S]*?)^```$/gm)].map((match) => ({
  language: match[1],
  kind: match[2],
  code: match[3],
  line: readme.slice(0, match.index).split("\n").length + 1,
  end: match.index + match[0].length,
  start: match.index,
}));

const printed = /^--print-(setup|test)-command$/.exec(process.argv[2] ?? "")?.[1];
if (printed) {
  const found = blocks.filter((block) => block.kind === printed);
  if (found.length !== 1)
    throw new Error(`README.md has ${found.length} blocks marked "sh ${printed}"; expected 1`);
  console.log(found[0].code.trim());
  process.exit(0);
}

// Only now: the commands above are printed in a clone where nothing is installed yet.
const { default: ts } = await import("typescript");
const { project, env, remove } = installTarball();
let passed = 0;
let failed = 0;
try {
  const runnable = blocks.filter((block) => block.kind === "run");
  const programs = runnable.filter((block) => block.language === "ts");
  for (const block of programs) writeFileSync(join(project, `readme-${block.line}.ts`), block.code);
  report(
    "types of the ts blocks",
    checkTypes(programs.map((block) => join(project, `readme-${block.line}.ts`))),
  );
  for (const block of runnable) {
    const name = `README.md:${block.line} (${block.language})`;
    if (block.code.includes("../shared") && !hasShared) {
      console.log(`skip  ${name}: ../shared is absent`);
      continue;
    }
    report(name, run(block, outputAfter(block)));
  }
} finally {
  remove();
}
const json = process.argv.indexOf("--json");
if (json > 0) writeFileSync(process.argv[json + 1], JSON.stringify({ passed, failed }));
console.log(`README: ${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;

function report(name, problem) {
  if (problem) failed++;
  else passed++;
  console.log(problem ? `FAIL  ${name}\n${problem}` : `ok    ${name}`);
}

/** The text of the "output" block that follows a block with at most a line of prose between them. */
function outputAfter(block) {
  const next = blocks.find((other) => other.start > block.end);
  if (next?.kind !== "output" || readme.slice(block.end, next.start).includes("```")) return undefined;
  return next.code;
}

/** Runs one block; answers what is wrong with it, or nothing. */
function run(block, expected) {
  const file = `readme-${block.line}.mjs`;
  if (block.language === "ts") {
    const { outputText } = ts.transpileModule(block.code, {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
    });
    writeFileSync(join(project, file), outputText);
  }
  const [command, args] =
    block.language === "ts" ? [process.execPath, [file]] : ["bash", ["-euo", "pipefail", "-c", block.code]];
  const done = spawnSync(command, args, { cwd: project, env, encoding: "utf8", timeout: 180_000 });
  if (done.status !== 0) return `exit code ${done.status ?? done.signal}\n${done.stdout}\n${done.stderr}`;
  // Commands say on stderr what they do (which model, how training goes); programs of the library say nothing there.
  const complaints =
    block.language === "ts" ? done.stderr : done.stderr.match(/^(lmhead|\(node|.*[Ww]arn).*/gm);
  if (complaints) return `stderr is not as it should be:\n${done.stderr}`;
  if (expected !== undefined) return difference(expected, done.stdout);
  return undefined;
}

function difference(expected, got) {
  const words = (text) => text.trim().split(/\s+/);
  const [want, have] = [words(expected), words(got)];
  for (let i = 0; i < Math.max(want.length, have.length); i++)
    if (!same(want[i], have[i]))
      return `word ${i + 1}: README says ${want[i]}, the program printed ${have[i]}\n${got}`;
  return undefined;
}

/** Equal words, or equal but for numbers within 2 % (or 0.02) of each other. Bars may differ by a character. */
function same(a, b) {
  if (a === b) return true;
  if (a === undefined || b === undefined) return false;
  const bar = /^[█▉▊▋▌▍▎▏]+$/;
  if (bar.test(a) && bar.test(b)) return Math.abs(a.length - b.length) <= 1;
  const number = /-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/g;
  if (a.replace(number, "#") !== b.replace(number, "#")) return false;
  const [left, right] = [a.match(number), b.match(number)];
  return left.every(
    (x, i) =>
      Math.abs(x - right[i]) <= Math.max(0.02, 0.02 * Math.abs(x)) && (x.includes(".") || x === right[i]),
  );
}

/** Type-checks the programs against the declarations in the tarball. */
function checkTypes(files) {
  const program = ts.createProgram(files, {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2023.d.ts", "lib.dom.d.ts", "lib.dom.asynciterable.d.ts"],
    moduleDetection: ts.ModuleDetectionKind.Force,
    strict: true,
    noEmit: true,
    types: ["node"],
    typeRoots: [join(root, "node_modules/@types")],
  });
  const problems = ts.getPreEmitDiagnostics(program);
  if (problems.length === 0) return undefined;
  return ts.formatDiagnostics(problems, {
    getCanonicalFileName: (name) => name,
    getCurrentDirectory: () => project,
    getNewLine: () => "\n",
  });
}
