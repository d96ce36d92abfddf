import { type Numbers, zerosLike } from "./numbers.js";

/**
 * out[n, :] = scale · table[ids[n], :].
 * @param table [V, D]
 * @param ids [N], each in [0, V)
 * @returns [N, D]
 */
export function embedForward<T extends Numbers>(table: T, ids: ArrayLike<number>, D: number, scale = 1): T {
  const out = zerosLike(table, ids.length * D);
  for (let n = 0; n < ids.length; n++)
    for (let c = 0; c < D; c++) out[n * D + c] = scale * table[ids[n] * D + c];
  return out;
}

/**
 * Adds the gradient of the table's rows to `dTable`: scale · dOut[n, :] at row ids[n]; an id that comes twice
 * receives both. It adds, because a tied head adds to the same gradient.
 * @param dTable [V, D], changed
 * @param dOut [N, D]
 */
export function embedBackward<T extends Numbers>(
  dTable: T,
  ids: ArrayLike<number>,
  dOut: T,
  D: number,
  scale = 1,
): void {
  for (let n = 0; n < ids.length; n++)
    for (let c = 0; c < D; c++) dTable[ids[n] * D + c] += scale * dOut[n * D + c];
}
