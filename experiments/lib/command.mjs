// What the scripts' command lines share.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { InputError } from "../../dist/errors.js";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** Where results and pages stand. */
export const DOCS = fileURLToPath(new URL("../../docs/experiments", import.meta.url));

/** `parseArgs`. @throws InputError for what it refuses */
export function parse(config) {
  try {
    return parseArgs(config);
  } catch (error) {
    if (!`${error.code}`.startsWith("ERR_PARSE_ARGS")) throw error;
    throw new InputError(error.message, { cause: error });
  }
}

/** Runs a script; what its caller did wrong is one line, and exit code 2. */
export async function main(name, work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    console.error(`${name}: ${error.message}`);
    process.exitCode = 2;
  }
}
