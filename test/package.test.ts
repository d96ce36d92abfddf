import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const run = promisify(execFile);

/** The package as `npm pack` makes it, installed in a new project. Needs `npm run build`, which `npm test` does first. */
describe("the packed tarball", () => {
  let tarball: { project: string; env: NodeJS.ProcessEnv; files: string[]; remove: () => void };

  beforeAll(async () => {
    const script = new URL("../scripts/tarball.mjs", import.meta.url).href;
    tarball = (await import(script)).installTarball();
  }, 180_000);

  afterAll(() => tarball?.remove());

  it("holds the built library, the embedded model, the licence and the papers, and nothing else", () => {
    const outside = tarball.files.filter((path) => !path.startsWith("dist/"));
    const model = ["README.md", "generation_config.json", "tiny-gpt.gguf"];
    expect(outside.sort()).toEqual([
      "CHANGELOG.md",
      "LICENSE",
      "README.md",
      ...model.map((name) => `models/tiny-gpt/${name}`),
      "package.json",
    ]);
    expect(tarball.files).toContain("dist/node.js");
    expect(tarball.files).toContain("dist/node.d.ts");
    expect(tarball.files).toContain("dist/index.js");
    expect(tarball.files).toContain("dist/cli/main.js");
    expect(tarball.files.filter((path) => /\.test\.|\.ts$/.test(path) && !path.endsWith(".d.ts"))).toEqual(
      [],
    );
  });

  it("answers with the embedded model where no other is named", async () => {
    const program = `
      import { LanguageModel } from "lmhead";
      const model = await LanguageModel.load();
      const [{ token }] = await (await model.next("The cat sat on the")).top(1);
      console.log(token.startsWith(" "));
      await model.close();
    `;
    const { stdout, stderr } = await run(process.execPath, ["--input-type=module", "-e", program], {
      cwd: tarball.project,
      env: tarball.env,
    });
    expect(stderr).toBe("");
    expect(stdout).toBe("true\n");
  });

  it("is imported as an ES module, asks a head and leaves, with an empty stderr", async () => {
    const program = `
      import { LinearHead } from "lmhead";
      const head = await LinearHead.random({ vocabSize: 1000, hiddenSize: 16, seed: 1 });
      const answer = await head.ask(new Float32Array(16).fill(1), { topK: 1, logSumExp: true });
      console.log(Number.isInteger(answer.topK[0].ids[0]), Number.isFinite(answer.logSumExp[0]));
    `;
    const { stdout, stderr } = await run(process.execPath, ["--input-type=module", "-e", program], {
      cwd: tarball.project,
      env: tarball.env,
    });
    expect({ stdout, stderr }).toEqual({ stdout: "true true\n", stderr: "" });
  });

  it("has a browser entry that needs nothing of Node", async () => {
    // Every module that the browser entry reaches by a static import, and that no Node module is among them.
    const seen = new Set<string>();
    const queue = [join(tarball.project, "node_modules/lmhead/dist/index.js")];
    for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
      if (seen.has(path)) continue;
      seen.add(path);
      const source = readFileSync(path, "utf8");
      for (const [, from] of source.matchAll(/^(?:import|export)\b[^;]*?from\s+"([^"]+)";?$/gm)) {
        expect(from, `imported by ${path}`).not.toMatch(/^node:/);
        if (from.startsWith(".")) queue.push(join(path, "..", from));
      }
    }
    expect(seen.size).toBeGreaterThan(1);
  });

  it.each([["--version"], ["--help"]])("runs `lmhead %s` with an empty stderr", async (flag) => {
    const { stdout, stderr } = await run("lmhead", [flag], { cwd: tarball.project, env: tarball.env });
    expect(stderr).toBe("");
    const { version } = JSON.parse(
      readFileSync(join(tarball.project, "node_modules/lmhead/package.json"), "utf8"),
    );
    if (flag === "--version") expect(stdout).toBe(`${version}\n`);
    else
      for (const command of ["next", "generate", "score", "tokenize", "info"])
        expect(stdout).toContain(command);
  });

  it("answers a wrong command with one line on stderr and exit code 2", async () => {
    const failure = await run("lmhead", ["nxt"], { cwd: tarball.project, env: tarball.env }).then(
      () => undefined,
      (error: { code: number; stdout: string; stderr: string }) => error,
    );
    expect(failure?.code).toBe(2);
    expect(failure?.stdout).toBe("");
    expect(failure?.stderr.trim().split("\n").length).toBeLessThanOrEqual(2);
  });
});
