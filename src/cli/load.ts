import { basename } from "node:path";
import { InputError } from "../errors.js";
import { embeddedName } from "../model/embedded.js";
import type { LanguageModel } from "../node.js";
import type { ModelFlags } from "./options.js";
import { bytes, type Output, printable, truncate } from "./render.js";

/** A loaded model and how long that took. */
export interface Loaded {
  readonly model: LanguageModel;
  readonly loadMs: number;
}

/** The path that --model gives; undefined: the embedded model serves, which is said in one line. */
export function modelPath(flags: ModelFlags): string | undefined {
  if (flags.model === "") throw new InputError("--model: expected a path, got an empty one");
  if (flags.model === undefined)
    process.stderr.write(`model: ${embeddedName}, which is inside lmhead; --model PATH takes another\n`);
  return flags.model;
}

/** A line that is written over and at last wiped away; nothing where no person watches. */
export class ProgressLine {
  private shown = "";

  constructor(
    private readonly stream: Pick<NodeJS.WriteStream, "isTTY" | "write"> & Output = process.stderr,
  ) {}

  show(text: string): void {
    if (!this.stream.isTTY) return;
    // A line that wraps could not be wiped away.
    const line = truncate(printable(text), (this.stream.columns || 80) - 1);
    if (line === this.shown) return;
    this.stream.write(`\r\u001b[K${line}`);
    this.shown = line;
  }

  clear(): void {
    if (this.shown !== "") this.stream.write("\r\u001b[K");
    this.shown = "";
  }
}

/** Loads the model that the flags name, showing progress on a terminal. */
async function openModel(flags: ModelFlags, signal: AbortSignal): Promise<Loaded> {
  const path = modelPath(flags);
  // Imported late: help, version and bad options answer without reading the engine.
  const { LanguageModel } = await import("../node.js");
  const progress = new ProgressLine();
  const start = performance.now();
  try {
    const model = await LanguageModel.load(path, {
      device: flags.device,
      threads: flags.threads,
      padded: flags.padded,
      signal,
      onProgress: ({ stage, done, total }) => {
        if (stage === "weights" && total > 0)
          progress.show(
            `loading ${basename(path ?? embeddedName)}: ${bytes(total)}, ${Math.floor((100 * done) / total)}%`,
          );
      },
    });
    return { model, loadMs: performance.now() - start };
  } finally {
    progress.clear();
  }
}

/** Runs `use` with the loaded model and closes it, whatever happens. */
export async function withModel(
  flags: ModelFlags,
  signal: AbortSignal,
  use: (loaded: Loaded) => Promise<void>,
): Promise<void> {
  const loaded = await openModel(flags, signal);
  try {
    await use(loaded);
  } finally {
    await loaded.model.close();
  }
}
