import { embedBackward } from "./embed.js";
import { type Numbers, zerosLike } from "./numbers.js";

/**
 * out[n, :] = x[n, :] + table[positions[n] + offset, :].
 * @param x [N, D]
 * @param table [rows, D], rows above every position + offset
 * @param positions [N]
 * @returns [N, D]
 */
export function positionsForward<T extends Numbers>(
  x: T,
  table: T,
  positions: ArrayLike<number>,
  offset: number,
): T {
  const D = positions.length ? x.length / positions.length : 0;
  const out = zerosLike(x);
  for (let n = 0; n < positions.length; n++)
    for (let c = 0; c < D; c++) out[n * D + c] = x[n * D + c] + table[(positions[n] + offset) * D + c];
  return out;
}

/**
 * Adds the gradient of the table's rows to `dTable`; the gradient of x is dOut itself.
 * @param dTable [rows, D], changed
 * @param dOut [N, D]
 */
export function positionsBackward<T extends Numbers>(
  dTable: T,
  positions: ArrayLike<number>,
  offset: number,
  dOut: T,
): void {
  const D = positions.length ? dOut.length / positions.length : 0;
  const rows = Array.from(positions, (position) => position + offset);
  embedBackward(dTable, rows, dOut, D);
}
