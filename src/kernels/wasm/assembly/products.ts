import { MAT_DATA, MAT_PANEL, aborted, pointer, scratchOf, share, word } from "./abi";
import { floatTile } from "./floats";
import { writeTile } from "./panels";
import { ROW_CHUNK, partialOf } from "./tile";

// The two products of a matmul's backward, on the tile that the forward uses. A gradient of weights stands in panels as
// weights do, so that an optimizer walks both alike. Sums run over rows (or outputs) one after the other, whatever the
// threads and the chunks.

/** Op: rows [rows][K] to [K][columns], both padded to fours of K. Words: 2 from, 3 its stride, 4 to, 5 its stride, 6 rows, 7 K. */
export function transpose(op: usize, tid: i32, nt: i32): void {
  const fours = (word(op, 7) + 3) >> 2, stride = pointer(op, 3), turned = pointer(op, 5), rows = word(op, 6);
  for (let k = share(fours, tid, nt); k < share(fours, tid + 1, nt); k++) {
    let from = pointer(op, 2) + (<usize>k << 4), to = pointer(op, 4) + (<usize>k << 2) * turned, n = 0;
    for (; n + 4 <= rows; n += 4, from += stride << 2, to += 16) turn4(v128.load(from), v128.load(from + stride), v128.load(from + (stride << 1)), v128.load(from + stride * 3), to, turned);
    for (; n < rows; n++, from += stride, to += 4)
      for (let i: usize = 0; i < 4; i++) store<f32>(to + i * turned, load<f32>(from + (i << 2)));
  }
}
/** Four rows of four to four columns of four, `stride` bytes apart. */
@inline
export function turn4(a: v128, b: v128, c: v128, d: v128, to: usize, stride: usize): void {
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const ef = v128.shuffle<i32>(a, b, 2, 6, 3, 7), gh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i32>(ab, cd, 0, 1, 4, 5));
  v128.store(to + stride, v128.shuffle<i32>(ab, cd, 2, 3, 6, 7));
  v128.store(to + (stride << 1), v128.shuffle<i32>(ef, gh, 0, 1, 4, 5));
  v128.store(to + stride * 3, v128.shuffle<i32>(ef, gh, 2, 3, 6, 7));
}

/** Rows of one slice of the sum over rows: its 16 columns fill half of the first cache. */
const SLICE: i32 = 256;

/**
 * Op: dW += dOutᵀ · x, in panels; dBias += Σ dOut. Words: 2 matrix of dW or 0, 3 x turned [K][rows], 4 its stride, 5 outputs,
 * 6 dBias or 0 (room for whole panels), 8 dOut, 9 its stride, 10 rows.
 */
export function weightGradient(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), K = mat ? word(mat, 3) : 0, O = word(op, 5), panels = (O + 15) >> 4, stride = pointer(op, 4);
  for (let panel = share(panels, tid, nt); panel < share(panels, tid + 1, nt); panel++)
    addColumns(
      pointer(op, 8) + (<usize>panel << 6), pointer(op, 9), word(op, 10), min(16, O - (panel << 4)), pointer(op, 3), stride, K,
      mat ? <usize>load<u32>(mat + MAT_DATA) + <usize>panel * <usize>load<u32>(mat + MAT_PANEL) : 0,
      pointer(op, 6) ? pointer(op, 6) + (<usize>panel << 6) : 0, scratchOf(tid),
    );
}
/** out [K][16] += x [K][rows] · columns [rows][16], of which `cols` are there; sums [16], where wanted, += Σ columns. */
export function addColumns(columns: usize, columnStride: usize, rows: i32, cols: i32, x: usize, stride: usize, K: i32, out: usize, sums: usize, packed: usize): void {
  const last = partialOf(packed);
  for (let n0 = 0; n0 < rows; n0 += SLICE) {
    if (aborted()) return;
    const n = min(SLICE, rows - n0);
    packColumns(columns + <usize>n0 * columnStride, columnStride, n, cols, packed);
    if (sums) sumColumns(packed, n, sums);
    let to = out, from = x + (<usize>n0 << 2);
    for (let k = 0; k + 2 <= K; k += 2, to += 128, from += stride << 1) floatTile(packed, from, from + stride, n, to);
    if (K & 1) {
      memory.copy(last, to, 64);
      floatTile(packed, from, from, n, last);
      memory.copy(to, last, 64);
    }
  }
}
/** 16 columns of rows to [rows][16]; zeros past `cols`, where another matrix's columns may stand. */
function packColumns(from: usize, stride: usize, rows: i32, cols: i32, to: usize): void {
  for (let n = 0; n < rows; n++, from += stride, to += 64) {
    if (cols == 16) for (let j: usize = 0; j < 64; j += 16) v128.store(to + j, v128.load(from + j));
    else for (let c = 0; c < 16; c++) store<f32>(to + (<usize>c << 2), c < cols ? load<f32>(from + (<usize>c << 2)) : 0);
  }
}
function sumColumns(packed: usize, rows: i32, out: usize): void {
  for (let j: usize = 0; j < 64; j += 16) {
    let sum = v128.load(out + j);
    for (let n = 0; n < rows; n++) sum = f32x4.add(sum, v128.load(packed + (<usize>n << 6) + j));
    v128.store(out + j, sum);
  }
}

/** Panels of 16 outputs that one slice of the sum over outputs takes. */
const PANELS: i32 = 16;

/** Op: dx += dOut · W. Words: 2 matrix, 3 dx, 4 its stride, 5 outputs, 8 dOut, 9 its stride, 10 rows. */
export function inputGradient(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), K = word(mat, 3), blocks = (K + 15) >> 4, O = word(op, 5), panels = (O + 15) >> 4;
  const packed = scratchOf(tid), tile = partialOf(packed), bytes = <usize>load<u32>(mat + MAT_PANEL);
  for (let n0 = 0; n0 < word(op, 10); n0 += ROW_CHUNK) {
    const rows = min(ROW_CHUNK, word(op, 10) - n0);
    // A slice of outputs meets all columns before the next: its part of dOut and of W stays in the cache.
    for (let p0 = 0; p0 < panels; p0 += PANELS) {
      const n = min(PANELS, panels - p0), count = min(n << 4, O - (p0 << 4));
      const g = pointer(op, 8) + <usize>n0 * pointer(op, 9) + (<usize>p0 << 6);
      for (let b = share(blocks, tid, nt); b < share(blocks, tid + 1, nt); b++) {
        if (aborted()) return;
        const cols = min(16, K - (b << 4));
        for (let p = 0; p < n; p++) turn(<usize>load<u32>(mat + MAT_DATA) + <usize>(p0 + p) * bytes + (<usize>b << 10), cols, packed + (<usize>p << 10));
        memory.fill(tile, 0, <usize>((rows + 1) & ~1) << 6);
        for (let r = 0; r < rows; r += 2) {
          const y = g + <usize>r * pointer(op, 9);
          floatTile(packed, y, r + 1 < rows ? y + pointer(op, 9) : y, count, tile + (<usize>r << 6));
        }
        writeTile(tile, rows, pointer(op, 3) + <usize>n0 * pointer(op, 4) + (<usize>b << 6), pointer(op, 4), cols, 0, true);
      }
    }
  }
}
/** [count of k][16 outputs] to [16 outputs][16 of k], zeros past count. */
function turn(from: usize, count: i32, to: usize): void {
  for (let k = 0; k < 16; k += 4, to += 16) {
    const zero = f32x4.splat(0);
    for (let v: usize = 0; v < 64; v += 16) {
      const at = from + (<usize>k << 6) + v;
      const a = k < count ? v128.load(at) : zero, b = k + 1 < count ? v128.load(at, 64) : zero;
      const c = k + 2 < count ? v128.load(at, 128) : zero, d = k + 3 < count ? v128.load(at, 192) : zero;
      turn4(a, b, c, d, to + (v << 4), 64);
    }
  }
}
