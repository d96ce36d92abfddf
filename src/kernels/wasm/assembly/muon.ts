import { F32, MAT_COLS, MAT_PANEL, aborted, pointer, real, scratchOf, share, word } from "./abi";
import { average4, dataOf, notFinite, panelsOf, report, words4 } from "./optimize";
import { panelProduct } from "./panels";
import { addColumns, turn4 } from "./products";
import { ROW_CHUNK, partialOf } from "./tile";

// Muon; see reference/muon.ts and reference/newton-schulz.ts, whose bits these are: every sum runs over its index one after
// the other, there and on the tile. X [S][L] has the shorter side first; X and its transpose Xᵀ [L][S] both stand in memory,
// row after row, because a product takes the one as rows and the other as panels. A matrix's panels hold its columns side by
// side: [columns][rows] of it are copied as whole vectors, and are X of a tall matrix, Xᵀ of a wide one.

/**
 * Op: momentum ← average of it and the gradient; what is to be made orthogonal goes to [columns][rows]. Words: 2 gradient,
 * 3 momentum (matrices), 4 to, 5 its stride, 6 β, 7 1 - β, 8 nesterov?, 9 factor, 10 number reported when a sum is not finite.
 */
export function muonMomentum(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), panels = panelsOf(mat), K = load<i32>(mat + MAT_COLS), near = real(op, 6) >= 0.5, nesterov = word(op, 8) != 0;
  let bad = i32x4.splat(0);
  for (let panel = share(panels, tid, nt); panel < share(panels, tid + 1, nt); panel++) {
    const from = <usize>panel * <usize>load<u32>(mat + MAT_PANEL);
    let g = dataOf(mat) + from, m = dataOf(pointer(op, 3)) + from, to = pointer(op, 4) + (<usize>panel << 6);
    for (let k = 0; k < K; k++, g += 64, m += 64, to += pointer(op, 5))
      for (let i: usize = 0; i < 64; i += 16) {
        const x = f32x4.mul(v128.load(g + i), words4(op, 9)), mean = average4(v128.load(m + i), x, near, words4(op, 6), words4(op, 7));
        v128.store(m + i, mean);
        v128.store(to + i, nesterov ? average4(mean, x, near, words4(op, 6), words4(op, 7)) : mean);
        bad = v128.or(bad, notFinite(mean));
      }
  }
  report(bad, word(op, 10));
}

/** Numbers of one partial sum; reference/squares.ts has the same. */
const CHUNK: i32 = 4096;

/** Op: Σ x² of each chunk of X, in the order of reference/squares.ts. Words: 2 X, 3 its stride, 4 S, 5 L, 6 out [chunks] f64. */
export function muonSquares(op: usize, tid: i32, nt: i32): void {
  const L = word(op, 5), size = word(op, 4) * L, chunks = (size + CHUNK - 1) / CHUNK, sums = scratchOf(tid);
  for (let chunk = share(chunks, tid, nt); chunk < share(chunks, tid + 1, nt); chunk++) {
    const first = chunk * CHUNK, n = min(CHUNK, size - first);
    let row = pointer(op, 2) + <usize>(first / L) * pointer(op, 3), c = first % L;
    memory.fill(sums, 0, 32);
    for (let i = 0; i < n; row += pointer(op, 3), c = 0)
      for (; c < L && i < n; c++, i++) {
        const x = <f64>load<f32>(row + (<usize>c << 2)), sum = sums + (<usize>(i & 3) << 3);
        store<f64>(sum, load<f64>(sum) + x * x);
      }
    store<f64>(pointer(op, 6) + (<usize>chunk << 3), load<f64>(sums) + load<f64>(sums, 16) + (load<f64>(sums, 8) + load<f64>(sums, 24)));
  }
}

/** Op: Xᵀ divided by ‖X‖. Words: 2 Xᵀ, 3 its stride, 4 S, 5 L, 6 sums [chunks] f64, 7 the least norm. */
export function muonScale(op: usize, tid: i32, nt: i32): void {
  const S = word(op, 4), L = word(op, 5), chunks = (S * L + CHUNK - 1) / CHUNK;
  let sum: f64 = 0;
  for (let i = 0; i < chunks; i++) sum += load<f64>(pointer(op, 6) + (<usize>i << 3));
  const norm = f32x4.splat(max(<f32>sqrt<f64>(sum), real(op, 7)));
  for (let n = share(L, tid, nt); n < share(L, tid + 1, nt); n++) {
    const row = pointer(op, 2) + <usize>n * pointer(op, 3);
    for (let i: usize = 0; i < <usize>S << 2; i += 16) v128.store(row + i, f32x4.div(v128.load(row + i), norm));
  }
}

/** First panel of thread `tid` when panels, each with one block of 16 rows more than the one before, are split evenly. */
@inline
function corner(panels: i32, tid: i32, nt: i32): i32 {
  return <i32>(<f64>panels * sqrt<f64>(<f64>tid / <f64>nt) + 0.5);
}

/**
 * Op: Y·Yᵀ for Y = X or Y = G, of which each panel is made down to its diagonal and the rest mirrored: the bits of both halves
 * are the same. For X it goes to G, row after row; for G the panels become b·G + c·G². Words: 2 Y, 3 its stride, 4 Yᵀ, 5 its
 * stride, 6 S, 7 length of the sums, 8 panels, 9 G, 10 its stride, 11 whether Y is G, 12 b, 13 c. What is missing of a panel is zeros.
 */
export function muonGram(op: usize, tid: i32, nt: i32): void {
  const S = word(op, 6), panels = (S + 15) >> 4, bytes = <usize>panels << 10, square = word(op, 11) != 0, stride = pointer(op, 10);
  for (let panel = corner(panels, tid, nt); panel < corner(panels, tid + 1, nt); panel++) {
    const out = pointer(op, 8) + <usize>panel * bytes, first = <usize>panel << 4, column = pointer(op, 9) + (first << 2);
    memory.fill(out, 0, (first + 16) << 6);
    addColumns(pointer(op, 4) + (first << 2), pointer(op, 5), word(op, 7), min(16, S - (panel << 4)), pointer(op, 2), pointer(op, 3), min(S, (panel + 1) << 4), out, 0, scratchOf(tid));
    for (let n: usize = 0; n < first + 16; n += 4)
      for (let j: usize = 0; j < 16; j += 4) {
        const tile = out + (n << 6) + (j << 2), g = column + n * stride + (j << 2);
        let y0 = v128.load(tile), y1 = v128.load(tile, 64), y2 = v128.load(tile, 128), y3 = v128.load(tile, 192);
        if (square) {
          y0 = f32x4.add(f32x4.mul(words4(op, 12), v128.load(g)), f32x4.mul(words4(op, 13), y0));
          y1 = f32x4.add(f32x4.mul(words4(op, 12), v128.load(g + stride)), f32x4.mul(words4(op, 13), y1));
          y2 = f32x4.add(f32x4.mul(words4(op, 12), v128.load(g + (stride << 1))), f32x4.mul(words4(op, 13), y2));
          y3 = f32x4.add(f32x4.mul(words4(op, 12), v128.load(g + stride * 3)), f32x4.mul(words4(op, 13), y3));
        }
        const to = square ? tile : g, toStride: usize = square ? 64 : stride;
        v128.store(to, y0);
        v128.store(to + toStride, y1);
        v128.store(to + (toStride << 1), y2);
        v128.store(to + toStride * 3, y3);
        if (n >= first) continue;
        if (square) turn4(y0, y1, y2, y3, pointer(op, 8) + (n >> 4) * bytes + ((first + j) << 6) + ((n & 15) << 2), 64);
        else turn4(y0, y1, y2, y3, pointer(op, 9) + (first + j) * stride + (n << 2), stride);
      }
  }
}

/** Op: to ← a·Xᵀ + Xᵀ·F. Words: 2 Xᵀ, 3 its stride, 4 to (same stride), 5 S, 6 L, 7 panels of F, 8 a. */
export function muonApply(op: usize, tid: i32, nt: i32): void {
  const S = word(op, 5), L = word(op, 6), stride = pointer(op, 3), panels = (S + 15) >> 4, chunks = (L + ROW_CHUNK - 1) / ROW_CHUNK;
  const scratch = scratchOf(tid), a = words4(op, 8);
  for (let task = share(panels * chunks, tid, nt); task < share(panels * chunks, tid + 1, nt); task++) {
    if (aborted()) return;
    const panel = <usize>(task / chunks), r = (task % chunks) * ROW_CHUNK, rows = min(ROW_CHUNK, L - r), at = <usize>r * stride;
    panelProduct(F32, pointer(op, 7) + panel * (<usize>panels << 10), pointer(op, 2) + at, stride, rows, S, scratch);
    let tile = partialOf(scratch), x = pointer(op, 2) + at + (panel << 6), to = pointer(op, 4) + at + (panel << 6);
    for (let n = 0; n < rows; n++, tile += 64, x += stride, to += stride)
      for (let i: usize = 0; i < 64; i += 16) v128.store(to + i, f32x4.add(f32x4.mul(a, v128.load(x + i)), v128.load(tile + i)));
  }
}

/** Op: value ← decay · value - rate · u. Words: 2 value, 3 u [columns][rows], 4 its stride, 5 decay, 6 rate, 7 number reported. */
export function muonStep(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), panels = panelsOf(mat), K = load<i32>(mat + MAT_COLS);
  let bad = i32x4.splat(0);
  for (let panel = share(panels, tid, nt); panel < share(panels, tid + 1, nt); panel++) {
    let p = dataOf(mat) + <usize>panel * <usize>load<u32>(mat + MAT_PANEL), u = pointer(op, 3) + (<usize>panel << 6);
    for (let k = 0; k < K; k++, p += 64, u += pointer(op, 4))
      for (let i: usize = 0; i < 64; i += 16) {
        const next = f32x4.sub(f32x4.mul(v128.load(p + i), words4(op, 5)), f32x4.mul(words4(op, 6), v128.load(u + i)));
        v128.store(p + i, next);
        bad = v128.or(bad, notFinite(next));
      }
  }
  report(bad, word(op, 7));
}
