import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const built = new URL("../../../dist/kernels/open.js", import.meta.url);

/** Runs a module in a Node of its own, on the built package; gives what it printed. */
async function run(code: string): Promise<string> {
  const script = `import { openDevice } from ${JSON.stringify(built.href)};\n${code}`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
    timeout: 30_000,
  });
  return stdout.trim();
}
const ask = `
  const device = await openDevice({ device: "wasm", threads: 3 });
  const read = async () => new Uint8Array(64);
  const matrix = await device.matrix({ name: "w", rows: 4, cols: 4, type: "f32", read });
  const head = { matrix, vocabSize: 4, scale: 1 };
  const query = { topK: 1, rank: false, logSumExp: false, entropy: false, logits: false };
  const { topIds } = await device.ask(head, new Float32Array(4), query);`;

describe.skipIf(!existsSync(fileURLToPath(built)))("an idle pool", () => {
  it("does not keep the process alive, and waits for work that is under way", async () => {
    expect(await run(`${ask} console.log(topIds[0]);`)).toBe("0");
  });
  it("sleeps: a spinning thread would use all of a core", async () => {
    const used = await run(`${ask}
      await new Promise((resume) => setTimeout(resume, 300));
      const before = process.cpuUsage();
      await new Promise((resume) => setTimeout(resume, 1000));
      const { user, system } = process.cpuUsage(before);
      console.log((user + system) / 1e6);`);
    expect(Number(used)).toBeLessThan(0.5);
  });
});
