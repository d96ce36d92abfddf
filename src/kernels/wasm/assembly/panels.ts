import { B4M, B4Z, B8, B8M, B8H, BF16, F16, F32, aborted } from "./abi";
import { floatRow, floatRows, halfRow } from "./floats";
import { integerRow, integerRows } from "./integers";
import { ROW_CHUNK, partialOf } from "./tile";

// Products of one panel (16 output rows) with one row or many rows of activations. Every output element is summed
// in the same order on every path: floats over k one after the other, integers exactly inside a group and then over
// the groups in order. So one row and many rows give the same bits.

/**
 * A panel times `rows` (at most ROW_CHUNK) rows; the results [rows][16] stand at partialOf(scratch).
 * x: f32 rows `stride` bytes apart for float formats, quantised rows for integer formats.
 */
export function panelProduct(format: i32, p: usize, x: usize, stride: usize, rows: i32, K: i32, scratch: usize): void {
  const out = partialOf(scratch);
  if (format < B8) {
    if (rows > 1) floatRows(p, x, stride, rows, K, scratch, format);
    else if (format == F32) floatRow(p, x, K, out);
    else if (format == F16) halfRow(p, x, K, out, F16);
    else halfRow(p, x, K, out, BF16);
  } else if (rows > 1) integerRows(p, x, rows, K, scratch, format);
  else if (format == B4M) integerRow(p, x, K, out, B4M);
  else if (format == B4Z) integerRow(p, x, K, out, B4Z);
  else if (format == B8) integerRow(p, x, K, out, B8);
  else if (format == B8M) integerRow(p, x, K, out, B8M);
  else integerRow(p, x, K, out, B8H);
}

/** Writes [rows][16] results to columns of out: plus bias, plus (accumulate) what out holds. */
export function writeTile(from: usize, rows: i32, out: usize, stride: usize, cols: i32, bias: usize, accumulate: bool): void {
  for (let r = 0; r < rows; r++) {
    let c = 0;
    for (; c + 4 <= cols; c += 4) {
      const at = <usize>c << 2;
      let v = v128.load(from + at);
      if (bias) v = f32x4.add(v, v128.load(bias + at));
      if (accumulate) v = f32x4.add(v128.load(out + at), v);
      v128.store(out + at, v);
    }
    for (; c < cols; c++) {
      const at = <usize>c << 2;
      let v = load<f32>(from + at);
      if (bias) v += load<f32>(bias + at);
      if (accumulate) v = load<f32>(out + at) + v;
      store<f32>(out + at, v);
    }
    from += 64;
    out += stride;
  }
}

/** in [N, K] times a matrix into columns of out; panels [first, last). */
export function matmul(
  format: i32, data: usize, panelBytes: usize, O: i32, K: i32, first: i32, last: i32,
  x: usize, xStride: usize, N: i32, out: usize, outStride: usize, bias: usize, accumulate: bool, scratch: usize,
): void {
  for (let panel = first; panel < last; panel++) {
    const p = data + <usize>panel * panelBytes, c = panel << 4, cols = min(16, O - c);
    for (let r = 0; r < N; r += ROW_CHUNK) {
      if (aborted()) return;
      const rows = min(ROW_CHUNK, N - r);
      panelProduct(format, p, x + <usize>r * xStride, xStride, rows, K, scratch);
      writeTile(
        partialOf(scratch), rows, out + <usize>r * outStride + (<usize>c << 2), outStride, cols,
        bias ? bias + (<usize>c << 2) : 0, accumulate,
      );
    }
  }
}
