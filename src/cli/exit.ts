import { AbortError, InputError } from "../errors.js";

/** Exit codes, as `lmhead --help` documents them. */
export const exitCodes = { ok: 0, internal: 1, input: 2, interrupted: 130, terminated: 143 } as const;

/** The lines of `--help` that say what an exit code means. */
export const exitHelp = `Exit codes:
  0    success
  1    an error inside lmhead (LMHEAD_DEBUG=1 shows the stack)
  2    bad input: an option, a file, a prompt; one line on standard error says which
  130  interrupted (Ctrl-C; 143: terminated); generate prints what it has`;

/** What a failure looks like from outside: the text for standard error and the exit code. */
export interface Failure {
  readonly message: string;
  readonly code: number;
}

/** Control characters are removed: a file's name or a header's bytes must not move the cursor or break the line. */
export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ").trim();
}

/** What the file system answers, in words. */
const systemErrors: Readonly<Record<string, string>> = {
  ENOENT: "no such file or folder",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EISDIR: "is a folder, a file was expected",
  ENOTDIR: "part of the path is a file, a folder was expected",
  EMFILE: "too many open files",
  ELOOP: "too many symbolic links",
  ENAMETOOLONG: "the path is too long",
};

/** `debug` appends the stack, whatever the error's kind. */
export function describeFailure(error: unknown, debug: boolean): Failure {
  const { message, code } = classify(error);
  const stack = debug && error instanceof Error && error.stack ? `\n${error.stack}` : "";
  return { message: `lmhead: ${message}${stack}`, code };
}

function classify(error: unknown): Failure {
  if (error instanceof InputError) return { message: oneLine(error.message), code: exitCodes.input };
  if (error instanceof AbortError || isAbort(error))
    return { message: "interrupted", code: exitCodes.interrupted };
  const system = systemError(error);
  if (system) return { message: system, code: exitCodes.input };
  const what = error instanceof Error ? error.message || error.name : String(error);
  return {
    message: `internal error: ${oneLine(what)} (please report it; LMHEAD_DEBUG=1 shows the stack)`,
    code: exitCodes.internal,
  };
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

/** Errors of the file system that a person can mend, as a line; `path` serves where the error names none. */
export function systemError(error: unknown, path?: string): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  const words = systemErrors[String(error.code)];
  const where = "path" in error ? String(error.path) : path;
  return words === undefined || where === undefined ? undefined : oneLine(`${where}: ${words}`);
}

/**
 * Ends the command on Ctrl-C: the first signal aborts, so that a command can print what it has; the second, for a
 * person who does not want to wait, ends the process at once.
 */
export function interruptible(): { readonly signal: AbortSignal; readonly code: () => number | undefined } {
  const controller = new AbortController();
  let code: number | undefined;
  const on = (name: NodeJS.Signals, exit: number): void => {
    process.on(name, () => {
      if (code !== undefined) process.exit(exit);
      code = exit;
      controller.abort(new Error(name));
    });
  };
  on("SIGINT", exitCodes.interrupted);
  on("SIGTERM", exitCodes.terminated);
  return { signal: controller.signal, code: () => code };
}

/** A reader such as `head` that has seen enough closes the pipe: that is its right, and no error of ours. */
export function quietPipes(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(exitCodes.ok);
      throw error;
    });
}
