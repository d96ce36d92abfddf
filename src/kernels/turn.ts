import { AbortError, throwIfAborted } from "../errors.js";

/**
 * Runs `task` when what came before it has settled. A task that still waits when its signal fires rejects at once, and
 * never runs; what comes after it must therefore wait for both.
 * @param before never rejects
 * @throws AbortError
 */
export function inTurn<T>(
  before: Promise<unknown>,
  signal: AbortSignal | undefined,
  task: () => Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    throwIfAborted(signal);
    const stop = () => reject(new AbortError(signal));
    signal?.addEventListener("abort", stop, { once: true });
    const run = async () => {
      signal?.removeEventListener("abort", stop);
      throwIfAborted(signal);
      return task();
    };
    before.then(run).then(resolve, reject);
  });
}
