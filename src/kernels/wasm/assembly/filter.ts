import { MAT_DATA, MAT_PANEL, aborted, pointer, scratchOf, share, word } from "./abi";
import { mad, partialOf, store4 } from "./tile";

// The two gradient products of a loss over the blocks that the gradient filter kept; a block is one row by one panel of
// 16 ids (`lossGradient` says which). The others are not read. Blocks of single rows are what makes them sparse, without
// reordering the vocabulary. Every sum runs in order of rows or panels and is one thread's.

/** Rows of a panel's kept blocks, in order, to `to`; returns how many. */
function keptRows(kept: usize, stride: usize, rows: i32, to: usize): i32 {
  let count = 0;
  for (let r = 0; r < rows; r++, kept += stride)
    if (load<u8>(kept)) {
      store<i32>(to + (<usize>count << 2), r);
      count++;
    }
  return count;
}

/** K of a slice: its part of a panel stays in the first cache while all kept rows meet it. */
const SLICE: i32 = 256;

/**
 * Op: dW += dOutᵀ · x in panels, to the bits of `weightGradient` with zeros for what is left out. Words: 2 matrix of dW,
 * 3 x [rows][K], 4 its stride, 5 outputs, 8 dOut, 9 its stride, 10 rows (at most 256), 11 kept [rows][panels] u8.
 */
export function filteredWeightGradient(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), K = word(mat, 3), panels = (word(op, 5) + 15) >> 4, g = scratchOf(tid), list = partialOf(g);
  for (let panel = share(panels, tid, nt); panel < share(panels, tid + 1, nt); panel++) {
    if (aborted()) return;
    const count = keptRows(pointer(op, 11) + <usize>panel, <usize>panels, word(op, 10), list);
    // Each row's gradients, and instead of its number where its hidden state stands.
    for (let i = 0; i < count; i++) {
      const at = list + (<usize>i << 2), r = <usize>load<i32>(at), from = pointer(op, 8) + r * pointer(op, 9) + (<usize>panel << 6), to = g + (<usize>i << 6);
      store4(to, v128.load(from), v128.load(from, 16), v128.load(from, 32), v128.load(from, 48));
      store<u32>(at, <u32>(pointer(op, 3) + r * pointer(op, 4)));
    }
    // Four rows a turn; where the last are fewer, zeros times the last.
    const whole = (count + 3) & ~3, zero = f32x4.splat(0);
    for (let i = count; i < whole; i++) {
      store4(g + (<usize>i << 6), zero, zero, zero, zero);
      store<u32>(list + (<usize>i << 2), load<u32>(list + (<usize>(count - 1) << 2)));
    }
    const out = <usize>load<u32>(mat + MAT_DATA) + <usize>panel * <usize>load<u32>(mat + MAT_PANEL);
    for (let k = 0; k < K; k += SLICE)
      for (let i = 0; i < whole; i += 4)
        for (let half: usize = 0; half < 64; half += 32)
          outer4(g + (<usize>i << 6) + half, list + (<usize>i << 2), <usize>k << 2, min(SLICE, K - k), out + (<usize>k << 6) + half);
  }
}
/** out [count][8 of 16] += Σ over four rows, in order, of x[k] · g. `xs`: addresses of the rows; `at`: bytes into them. */
function outer4(g: usize, xs: usize, at: usize, count: i32, out: usize): void {
  const a0 = v128.load(g), a1 = v128.load(g, 16), b0 = v128.load(g, 64), b1 = v128.load(g, 80);
  const c0 = v128.load(g, 128), c1 = v128.load(g, 144), d0 = v128.load(g, 192), d1 = v128.load(g, 208);
  let a = <usize>load<u32>(xs) + at, b = <usize>load<u32>(xs, 4) + at, c = <usize>load<u32>(xs, 8) + at, d = <usize>load<u32>(xs, 12) + at;
  for (const end = a + (<usize>count << 2); a < end; a += 4, b += 4, c += 4, d += 4, out += 64) {
    let low = v128.load(out), high = v128.load(out, 16), x = v128.load32_splat(a);
    low = mad(low, x, a0);
    high = mad(high, x, a1);
    x = v128.load32_splat(b);
    low = mad(low, x, b0);
    high = mad(high, x, b1);
    x = v128.load32_splat(c);
    low = mad(low, x, c0);
    high = mad(high, x, c1);
    x = v128.load32_splat(d);
    v128.store(out, mad(low, x, d0));
    v128.store(out, mad(high, x, d1), 16);
  }
}

/** Op: dx += dOut · W. Words: 2 matrix, 3 dx, 4 its stride, 5 outputs, 8 dOut, 9 its stride, 10 rows, 11 kept [rows][panels] u8. */
export function filteredInputGradient(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), K = word(mat, 3), blocks = (K + 15) >> 4, panels = (word(op, 5) + 15) >> 4, list = scratchOf(tid);
  const first = share(blocks, tid, nt) << 4, last = min(K, share(blocks, tid + 1, nt) << 4);
  for (let panel = 0; panel < panels; panel++) {
    if (aborted()) return;
    const count = keptRows(pointer(op, 11) + <usize>panel, <usize>panels, word(op, 10), list);
    const w = <usize>load<u32>(mat + MAT_DATA) + <usize>panel * <usize>load<u32>(mat + MAT_PANEL);
    for (let k = first; k < last; k += 16)
      for (let i = 0; i < count; i++) {
        const r = <usize>load<i32>(list + (<usize>i << 2));
        dots(pointer(op, 8) + r * pointer(op, 9) + (<usize>panel << 6), w + (<usize>k << 6), min(16, last - k), pointer(op, 3) + r * pointer(op, 4) + (<usize>k << 2));
      }
  }
}
/** out [count] += w [count][16] · g [16]. */
function dots(g: usize, w: usize, count: i32, out: usize): void {
  const g0 = v128.load(g), g1 = v128.load(g, 16), g2 = v128.load(g, 32), g3 = v128.load(g, 48);
  for (; count >= 4; count -= 4, w += 256, out += 16) {
    const a = dot4(w, g0, g1, g2, g3), b = dot4(w + 64, g0, g1, g2, g3), c = dot4(w + 128, g0, g1, g2, g3), d = dot4(w + 192, g0, g1, g2, g3);
    const ab = f32x4.add(v128.shuffle<i32>(a, b, 0, 4, 2, 6), v128.shuffle<i32>(a, b, 1, 5, 3, 7));
    const cd = f32x4.add(v128.shuffle<i32>(c, d, 0, 4, 2, 6), v128.shuffle<i32>(c, d, 1, 5, 3, 7));
    const sum = f32x4.add(v128.shuffle<i32>(ab, cd, 0, 1, 4, 5), v128.shuffle<i32>(ab, cd, 2, 3, 6, 7));
    v128.store(out, f32x4.add(v128.load(out), sum));
  }
  for (; count > 0; count--, w += 64, out += 4) {
    const a = dot4(w, g0, g1, g2, g3);
    store<f32>(out, load<f32>(out) + (f32x4.extract_lane(a, 0) + f32x4.extract_lane(a, 1) + (f32x4.extract_lane(a, 2) + f32x4.extract_lane(a, 3))));
  }
}
/** Four sums of four products each. */
@inline
function dot4(w: usize, g0: v128, g1: v128, g2: v128, g3: v128): v128 {
  return mad(mad(mad(f32x4.mul(v128.load(w), g0), v128.load(w, 16), g1), v128.load(w, 32), g2), v128.load(w, 48), g3);
}
