import { throwIfAborted } from "../errors.js";
import type { MatrixSource } from "../kernels/device.js";
import { rowBytes } from "../kernels/format.js";

/** Bytes of each matrix that are compared at a time. */
const CHUNK_BYTES = 4 << 20;

/** Whether embedding and head are one matrix, and how that was found. */
export interface Tying {
  readonly tied: boolean;
  /** A sentence for `info`. */
  readonly how: string;
}

/** A vocabulary matrix and the name of its tensor. */
export interface NamedMatrix {
  readonly name: string;
  readonly source: MatrixSource;
}

/**
 * Decides by the tensors whether the head is the embedding: both present → their bytes are compared; one → it serves
 * for both. What a config claims is not asked: configs lie.
 * @param head undefined when the checkpoint has one vocabulary matrix
 * @param names the names under which a second one was looked for
 */
export async function findTying(
  embedding: NamedMatrix,
  head: NamedMatrix | undefined,
  names: readonly string[],
  signal?: AbortSignal,
): Promise<Tying> {
  if (!head) {
    const others = names.length > 0 ? `; there is no ${names.join(" or ")}` : "";
    return { tied: true, how: `${embedding.name} is the only vocabulary matrix${others}` };
  }
  const both = `${embedding.name} and ${head.name}`;
  for (const what of ["rows", "cols", "type"] as const) {
    const [left, right] = [embedding.source[what], head.source[what]];
    if (left !== right) return { tied: false, how: `${both} differ in ${what}: ${left} and ${right}` };
  }
  const row = await firstDifference(embedding.source, head.source, signal);
  if (row === undefined) return { tied: true, how: `${both} are equal byte for byte; one copy is kept` };
  return { tied: false, how: `${both} are both present and differ (first in row ${row})` };
}

/** The first row in which two matrices of one shape and type differ. Reads both in chunks, up to the difference. */
async function firstDifference(
  a: MatrixSource,
  b: MatrixSource,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  const bytes = rowBytes(a.type, a.cols);
  // Untied matrices differ at once: the first look is at a single row.
  let count = 1;
  for (let first = 0; first < a.rows; first += count, count = Math.max(1, Math.floor(CHUNK_BYTES / bytes))) {
    throwIfAborted(signal);
    count = Math.min(count, a.rows - first);
    const [left, right] = await Promise.all([a.read(first, count), b.read(first, count)]);
    for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return first + Math.floor(i / bytes);
  }
  return undefined;
}
