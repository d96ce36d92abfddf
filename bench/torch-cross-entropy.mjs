// PyTorch's linear + cross-entropy with both gradients, in a process of its own: bench/cross_entropy.py.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { assert, root, threads } from "./lib.mjs";

/** Arrays as files, for a process of another's: their paths, and what removes them. */
export function arrayFiles(...arrays) {
  const folder = mkdtempSync(join(tmpdir(), "lmhead-bench-"));
  const files = arrays.map((data, i) => {
    const file = join(folder, `${i}.bin`);
    writeFileSync(file, data);
    return file;
  });
  return { files, remove: () => rmSync(folder, { recursive: true }) };
}

/**
 * Starts it on weights [V, D], hidden states [N, D] and targets [N]. LMHEAD_PYTHON names a Python with torch and numpy
 * (default: python3). Each `run()` answers the loss, the peak of its memory, and the first four numbers of row 0's hidden
 * gradient and of its target's weight gradient.
 */
export async function torchCrossEntropy(weight, hidden, targets) {
  const N = targets.length;
  const { files, remove } = arrayFiles(weight, hidden, targets);
  const script = join(root, "bench/cross_entropy.py");
  const child = spawn(
    process.env.LMHEAD_PYTHON ?? "python3",
    [script, hidden.length / N, threads].map(String),
    {
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  child.stdin.write(`${files.join("\n")}\n`);
  const ready = await lines.next();
  remove();
  assert(!ready.done, "Python with torch and numpy is missing: name one in LMHEAD_PYTHON");
  console.log(`PyTorch ${ready.value.split(" ")[1]}`);
  return {
    async run() {
      child.stdin.write("\n");
      const [, loss, peak, ...first] = (await lines.next()).value.split(" ").map(Number);
      return { loss, peak, first };
    },
    end: () => child.stdin.end(),
  };
}
