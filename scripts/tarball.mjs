import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The root of this checkout. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** Where models and cases of the project lie; not part of a clone. */
export const shared = resolve(root, "../shared");
export const hasShared = existsSync(shared);

/**
 * Packs what `npm run build` made and installs the tarball in a new project in the temporary folder, as a user would.
 * `../shared` resolves from there as it does from the checkout.
 * @returns the project's folder, the environment in which `lmhead` is on the PATH, and `remove()`.
 */
export function installTarball() {
  if (!existsSync(join(root, "dist/node.js"))) throw new Error("dist/ is missing: run `npm run build` first");
  const top = mkdtempSync(join(tmpdir(), "lmhead-tarball-"));
  const project = join(top, "project");
  mkdirSync(project);
  const packed = npm(["pack", "--ignore-scripts", "--json", "--pack-destination", top], root);
  const report = JSON.parse(packed);
  const [{ filename, files }] = Array.isArray(report) ? report : Object.values(report);
  writeFileSync(
    join(project, "package.json"),
    '{ "name": "reader", "version": "1.0.0", "type": "module", "private": true }\n',
  );
  npm(["install", "--no-audit", "--no-fund", "--prefer-offline", join(top, filename)], project);
  if (hasShared) symlinkSync(shared, join(top, "shared"));
  const env = {
    ...process.env,
    PATH: `${join(project, "node_modules/.bin")}:${process.env.PATH}`,
    NO_COLOR: "1",
  };
  delete env.FORCE_COLOR;
  return {
    project,
    env,
    /** Paths inside the tarball. */
    files: files.map((file) => file.path),
    remove: () => rmSync(top, { recursive: true, force: true }),
  };
}

function npm(args, cwd) {
  // npm's own warnings about a user's configuration are not ours to judge: only its stdout is kept.
  return execFileSync("npm", args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}
