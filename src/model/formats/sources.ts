import { InputError } from "../../errors.js";
import type { MatrixSource } from "../../kernels/device.js";
import { BLOCKS, rowBytes } from "../../kernels/format.js";
import { widen } from "../../kernels/reference/widen.js";

/** Matrix sources made of other sources: what a checkpoint holds in another order than a linear layer wants. */

/** @throws InputError when [first, first + count) are not rows of the source. */
export function checkRows(source: MatrixSource, first: number, count: number): void {
  const whole = Number.isSafeInteger(first) && Number.isSafeInteger(count);
  if (!whole || first < 0 || count < 0 || first + count > source.rows)
    throw new InputError(`${source.name}: rows ${first} to ${first + count} asked of ${source.rows}`);
}

/**
 * Row i is row `order[i]` of `source`; the number of rows is the length of `order` (of a function: the source's).
 * @throws InputError when `order` names a row that the source does not have.
 */
export function rowsReordered(
  source: MatrixSource,
  order: Int32Array | ((row: number) => number),
): MatrixSource {
  const from =
    typeof order === "function" ? Int32Array.from({ length: source.rows }, (_, i) => order(i)) : order;
  for (const row of from)
    if (row < 0 || row >= source.rows)
      throw new InputError(`${source.name}: the new order asks for row ${row} of ${source.rows}`);
  const bytes = rowBytes(source.type, source.cols);
  const reordered: MatrixSource = {
    name: source.name,
    rows: from.length,
    cols: source.cols,
    type: source.type,
    async read(first, count, into) {
      checkRows(reordered, first, count);
      const length = count * bytes;
      const out = into && into.length >= length ? into.subarray(0, length) : new Uint8Array(length);
      // Runs of neighbours are one read each: an order by heads has runs of a head's size.
      for (let i = 0; i < count; ) {
        let run = 1;
        while (i + run < count && from[first + i + run] === from[first + i] + run) run++;
        const to = out.subarray(i * bytes, (i + run) * bytes);
        const rows = await source.read(from[first + i], run, to);
        if (rows.buffer !== to.buffer || rows.byteOffset !== to.byteOffset) to.set(rows);
        i += run;
      }
      return out;
    },
  };
  return reordered;
}

/**
 * The transpose [cols, rows] of a source [rows, cols], for weights stored as [in, out] (GPT-2's Conv1D).
 * The source is read once and held, transposed, until its last row has been given.
 * @throws InputError for block formats, whose blocks run along the stored rows.
 */
export function transposed(source: MatrixSource): MatrixSource {
  const { rows, cols, name, type } = source;
  const size = BLOCKS[type].bytes;
  if (BLOCKS[type].size !== 1)
    throw new InputError(`${name}: stored as ${type}, which can't be transposed; expected f32, f16 or bf16`);
  let held: Promise<Uint8Array> | undefined;
  const turned: MatrixSource = {
    name,
    rows: cols,
    cols: rows,
    type,
    async read(first, count) {
      checkRows(turned, first, count);
      held ??= source.read(0, rows).then((bytes) => transposeBytes(bytes, rows, cols, size));
      const whole = await held;
      if (first + count === cols) held = undefined;
      return whole.slice(first * rows * size, (first + count) * rows * size);
    },
  };
  return turned;
}

/** [rows, cols] to [cols, rows], elements of 2 or 4 bytes. */
function transposeBytes(bytes: Uint8Array, rows: number, cols: number, size: number): Uint8Array {
  const Words = size === 4 ? Uint32Array : Uint16Array;
  // A view needs aligned bytes; those of a file in memory rarely are.
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  const from = new Words(aligned.buffer as ArrayBuffer, aligned.byteOffset, rows * cols);
  const to = new Words(rows * cols);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) to[c * rows + r] = from[r * cols + c];
  return new Uint8Array(to.buffer);
}

/**
 * The same rows as float32 numbers, exactly those that `source` stores, widened as they are read. A source of float32 is
 * given back as it is.
 */
export function float32Source(source: MatrixSource): MatrixSource {
  if (source.type === "f32") return source;
  return {
    name: source.name,
    rows: source.rows,
    cols: source.cols,
    type: "f32",
    async read(first, count) {
      const numbers = widen(source.type, await source.read(first, count), count * source.cols);
      return new Uint8Array(numbers.buffer);
    },
  };
}

/** A matrix from numbers in memory, [rows, cols] row-major. @throws InputError when their number differs. */
export function arraySource(name: string, rows: number, cols: number, data: Float32Array): MatrixSource {
  if (data.length !== rows * cols)
    throw new InputError(`${name}: expected ${rows} × ${cols} = ${rows * cols} numbers, got ${data.length}`);
  const source: MatrixSource = {
    name,
    rows,
    cols,
    type: "f32",
    async read(first, count) {
      checkRows(source, first, count);
      return new Uint8Array(data.slice(first * cols, (first + count) * cols).buffer);
    },
  };
  return source;
}
