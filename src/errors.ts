/**
 * Something the caller gave is wrong: an option, a file, a shape, an id.
 * The message names the thing, what was expected, what came and what to do.
 * The command line prints it as one line and exits with code 2.
 */
export class InputError extends Error {
  override readonly name = "InputError";
}

/** The caller's `AbortSignal` fired. `reason` of the signal is the `cause`. */
export class AbortError extends Error {
  override readonly name = "AbortError";
  constructor(signal?: AbortSignal) {
    super("aborted by the caller's signal", { cause: signal?.reason });
  }
}

/** Throws `AbortError` when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortError(signal);
}

/**
 * Refuses fields that nobody reads, so that a misspelt option is an error and never ignored.
 * @throws InputError naming the field and the known ones.
 */
export function checkFields(what: string, given: object, known: readonly string[]): void {
  for (const field of Object.keys(given))
    if (!known.includes(field))
      throw new InputError(`${what}: unknown option "${field}"; the options are ${known.join(", ")}`);
}
