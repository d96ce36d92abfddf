import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The folder of cases and models that lies beside a checkout; `LMHEAD_SHARED` names another place. */
const root = process.env.LMHEAD_SHARED ?? fileURLToPath(new URL("../../shared/", import.meta.url));

/** Whether the shared data are here. A clone alone has none: its tests run on fixtures made in code. */
export const shared = existsSync(`${root}/data/cases/README.md`);

if (!shared) console.log(`the shared data are not at ${root}: the tests that need them are skipped`);

/** Path of a file under the shared data: `sharedPath("cases/hf/gpt2/config.json")`. */
export function sharedPath(path: string): string {
  return `${root.replace(/\/$/, "")}/data/${path}`;
}
