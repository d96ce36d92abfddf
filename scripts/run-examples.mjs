// Runs every program of examples/ in this checkout (they import "lmhead", which resolves to dist/ by self-reference).
// A program fails when it exits with an error, prints nothing, or writes to stderr.
import { spawnSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./tarball.mjs";

let passed = 0;
let failed = 0;
for (const name of readdirSync(join(root, "examples")).sort()) {
  if (!name.endsWith(".mjs") || name.startsWith("_")) continue;
  const started = Date.now();
  const done = spawnSync(process.execPath, [join("examples", name)], {
    cwd: root,
    encoding: "utf8",
    timeout: 180_000,
    env: { ...process.env, NO_COLOR: "1" },
  });
  const bad = done.status !== 0 || done.stderr !== "" || done.stdout.trim() === "";
  const skipped = !bad && done.stdout.startsWith("skip:");
  if (bad) failed++;
  else if (!skipped) passed++;
  const word = bad ? "FAIL " : skipped ? "skip " : "ok   ";
  console.log(`${word} examples/${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  if (skipped) console.log(done.stdout.trim());
  if (bad) console.log(`exit code ${done.status ?? done.signal}\n${done.stdout}\n${done.stderr}`);
}
const json = process.argv.indexOf("--json");
if (json > 0) writeFileSync(process.argv[json + 1], JSON.stringify({ passed, failed }));
console.log(`examples: ${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
