import { MAT_DATA, MAT_PANEL, aborted, pointer, real, scratchOf, share, word } from "./abi";
import { final4, heapFloor, heapPush } from "./head";
import { gumbel4 } from "./math";
import { panelProduct } from "./panels";
import { partialOf } from "./tile";
import { widenRow } from "./unpack";

// Screening: int8 rows beside the full ones. A panel of the screen is
//   [K/2 pairs][16 rows][2] int8, then 16 scales, 16 norms of what quantisation lost, 16 norms of the full rows.
// K is padded to a multiple of 4. One int8 pass bounds every logit; ids whose upper bound reaches the k-th largest
// lower bound are candidates, and only they are computed in full.

const FLUSH: i32 = 512; // products of int16 and int8 that an int32 holds

/** Op: builds the screen of a float matrix whose rows, widened, fit a thread's scratch. Words: 2 matrix, 3 screen, 4 its panel bytes. */
export function screenBuild(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), rows = word(mat, 2), K = word(mat, 3), padded = (K + 3) & ~3, panels = (rows + 15) >> 4;
  const bytes = pointer(op, 4), row = scratchOf(tid);
  for (let panel = share(panels, tid, nt); panel < share(panels, tid + 1, nt); panel++) {
    if (aborted()) return;
    const to = pointer(op, 3) + <usize>panel * bytes, tail = to + (<usize>padded << 4);
    memory.fill(to, 0, bytes);
    for (let r = 0; r < min(16, rows - (panel << 4)); r++) {
      widenRow(word(mat, 0), <usize>load<u32>(mat + MAT_DATA) + <usize>panel * <usize>load<u32>(mat + MAT_PANEL), r, K, row);
      let top: f32 = 0;
      for (let k = 0; k < K; k++) top = max(top, abs(load<f32>(row + (<usize>k << 2))));
      const scale: f32 = top / 127;
      let lost: f64 = 0, norm: f64 = 0;
      for (let k = 0; k < K; k++) {
        const w = <f64>load<f32>(row + (<usize>k << 2));
        const q: f64 = scale > 0 ? max<f64>(-127, min<f64>(127, nearest<f64>(w / <f64>scale))) : 0;
        store<i8>(to + (<usize>(k >> 1) << 5) + <usize>((r << 1) + (k & 1)), <i8><i32>q);
        const e = w - q * <f64>scale;
        lost += e * e;
        norm += w * w;
      }
      const at = tail + (<usize>r << 2);
      store<f32>(at, scale);
      // Rounded up: a relative 1e-6 covers the rounding to float32 and the sums' own.
      store<f32>(at, <f32>(sqrt(lost) * 1.000001 + 1e-37), 64);
      store<f32>(at, <f32>(sqrt(norm) * 1.000001 + 1e-37), 128);
    }
  }
}

/** 16 approximate products of an int16 row with a screen panel, times the rows' scales and the activation's. */
@inline
function approximate(p: usize, x: usize, padded: i32, scale: f32, out: usize): void {
  let f0 = f32x4.splat(0), f1 = f0, f2 = f0, f3 = f0;
  const tail = p + (<usize>padded << 4);
  for (let k = 0; k < padded; k += FLUSH) {
    let s0 = i32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
    const end = x + (<usize>min(FLUSH, padded - k) << 1);
    for (; x < end; x += 8, p += 64) {
      const u = v128.load32_splat(x), v = v128.load32_splat(x, 4);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(v128.load_ext<i8>(p), u));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 8), u));
      s2 = i32x4.add(s2, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 16), u));
      s3 = i32x4.add(s3, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 24), u));
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 32), v));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 40), v));
      s2 = i32x4.add(s2, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 48), v));
      s3 = i32x4.add(s3, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 56), v));
    }
    f0 = f32x4.add(f0, f32x4.convert_i32x4_s(s0));
    f1 = f32x4.add(f1, f32x4.convert_i32x4_s(s1));
    f2 = f32x4.add(f2, f32x4.convert_i32x4_s(s2));
    f3 = f32x4.add(f3, f32x4.convert_i32x4_s(s3));
  }
  const sv = f32x4.splat(scale);
  v128.store(out, f32x4.mul(f32x4.mul(f0, v128.load(tail)), sv));
  v128.store(out, f32x4.mul(f32x4.mul(f1, v128.load(tail, 16)), sv), 16);
  v128.store(out, f32x4.mul(f32x4.mul(f2, v128.load(tail, 32)), sv), 32);
  v128.store(out, f32x4.mul(f32x4.mul(f3, v128.load(tail, 48)), sv), 48);
}

/** 1.00001, 1e-6 and 1e-36, splat from memory: V8 makes a constant vector anew at every use in a loop. */
const SLACK = memory.data<f32>([1.00001, 1e-6, 1e-36]);

/** Upper (or lower) bounds of four final logits, plus their noise where a sample is drawn. i: byte offset in the panel's 16. */
@inline
function bound(op: usize, tile: usize, tail: usize, panel: i32, i: usize, up: bool): v128 {
  const a = v128.load(tile + i), scale = real(op, 7), small = v128.load32_splat(SLACK, 4);
  // |h·w - approximation| <= ‖h‖·‖e‖ + (‖δ‖ + γ‖h‖)·‖w‖ + rounding of the approximation itself.
  let e = f32x4.add(f32x4.mul(words4(op, 10), v128.load(tail + i, 64)), f32x4.mul(words4(op, 11), v128.load(tail + i, 128)));
  e = f32x4.add(f32x4.mul(e, v128.load32_splat(SLACK)), f32x4.add(f32x4.mul(f32x4.abs(a), small), v128.load32_splat(SLACK, 8)));
  // A negative scale turns the bounds around.
  let b = final4(up == scale >= 0 ? f32x4.add(a, e) : f32x4.sub(a, e), pointer(op, 6), (<usize>panel << 6) + i, scale, real(op, 12));
  b = widen(b, f32x4.mul(small, f32x4.abs(b)), up);
  if (!word(op, 17)) return b;
  const id = i32x4.add(i32x4.splat((panel << 4) + <i32>(i >> 2)), i32x4(0, 1, 2, 3)), g = gumbel4(word(op, 18), word(op, 19), id);
  b = f32x4.add(f32x4.div(b, words4(op, 20)), g);
  return widen(b, f32x4.mul(small, f32x4.add(f32x4.abs(b), f32x4.abs(g))), up);
}
@inline
function words4(op: usize, i: usize): v128 {
  return v128.load32_splat(op + (i << 2));
}
@inline
function widen(x: v128, by: v128, up: bool): v128 {
  return up ? f32x4.add(x, by) : f32x4.sub(x, by);
}

/**
 * Op: one row through the screen. Words: 2 matrix, 3 screen, 4 panel bytes, 5 V, 6 bias, 7 scale, 8 int16 row,
 * 9 its scale, 10 ‖h‖·(1+), 11 (‖what h lost‖ + rounding·‖h‖)·(1+), 12 cap, 13 k (1 for a sample), 14 heaps of lower bounds
 * [threads][8 + 8k], 15 candidate lists [threads][8 + 8·capacity] (count; then upper bound f32 and id), 16 capacity,
 * 17 sample?, 18 key0, 19 key1, 20 temperature.
 */
export function screen(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), K = word(mat, 3), padded = (K + 3) & ~3, V = word(op, 5), panels = (V + 15) >> 4;
  const k = word(op, 13), capacity = word(op, 16);
  const heap = pointer(op, 14) + <usize>tid * <usize>(8 + 8 * k), list = pointer(op, 15) + <usize>tid * <usize>(8 + 8 * capacity);
  const tile = partialOf(scratchOf(tid)), lower = tile + 64, upper = tile + 128;
  store<i32>(heap, 0);
  let count = 0, floor = heapFloor(heap, k);
  for (let panel = share(panels, tid, nt); panel < share(panels, tid + 1, nt); panel++) {
    if (aborted()) return;
    const p = pointer(op, 3) + <usize>panel * pointer(op, 4), tail = p + (<usize>padded << 4);
    approximate(p, pointer(op, 8), padded, real(op, 9), tile);
    // not (upper < floor): NaN counts as a candidate, and so leads to the full pass.
    const below = f32x4.splat(floor);
    let out = i32x4.splat(-1);
    for (let i: usize = 0; i < 64; i += 16) {
      const hi = bound(op, tile, tail, panel, i, true);
      v128.store(upper + i, hi);
      out = v128.and(out, f32x4.lt(hi, below));
    }
    if (i32x4.all_true(out)) continue;
    for (let i: usize = 0; i < 64; i += 16) v128.store(lower + i, bound(op, tile, tail, panel, i, false));
    for (let i = 0; i < 16; i++) {
      const id = (panel << 4) + i;
      if (id >= V) break;
      const hi = load<f32>(upper + (<usize>i << 2)), lo = load<f32>(lower + (<usize>i << 2));
      if (hi < floor) continue;
      if (count < capacity && hi <= f32.MAX_VALUE) {
        store<f32>(list + (<usize>count << 3), hi, 8);
        store<i32>(list + (<usize>count << 3), id, 12);
      }
      // An overflowing list, or a bound that is not finite, is told by a count above the capacity.
      count = hi <= f32.MAX_VALUE ? count + 1 : capacity + 1;
      if (count > capacity) {
        store<i32>(list, capacity + 1);
        return;
      }
      if (load<i32>(heap) < k || lo > floor) {
        heapPush(heap, k, lo, id);
        floor = heapFloor(heap, k);
      }
    }
  }
  store<i32>(list, count);
}

/** The k-th largest lower bound that any thread found; -Infinity when there are fewer. copy: room for a heap of k. */
function commonFloor(heaps: usize, k: i32, nt: i32, copy: usize): f32 {
  const bytes = <usize>(8 + 8 * k);
  memory.copy(copy, heaps, bytes);
  for (let t = 1; t < nt; t++) {
    const heap = heaps + <usize>t * bytes, n = load<i32>(heap);
    for (let i = 0; i < n; i++) {
      const at = heap + 8 + (<usize>i << 3), lo = load<f32>(at);
      if (load<i32>(copy) < k || lo > heapFloor(copy, k)) heapPush(copy, k, lo, load<i32>(at, 4));
    }
  }
  return heapFloor(copy, k);
}

/**
 * Op: after the screen, with the same words: each thread drops from its list what can't be among the k best, and puts full
 * logits in place of the bounds. Words: 21 the row in float32, 22 the most candidates of a thread; more end as capacity + 1.
 */
export function rescore(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), K = word(mat, 3), capacity = word(op, 16), list = pointer(op, 15) + <usize>tid * <usize>(8 + 8 * capacity);
  const scratch = scratchOf(tid), tile = partialOf(scratch), count = load<i32>(list);
  if (count > capacity) return;
  const floor = commonFloor(pointer(op, 14), word(op, 13), nt, scratch);
  let left = 0;
  for (let i = 0; i < count; i++) {
    const entry = load<u64>(list + (<usize>i << 3), 8);
    if (load<f32>(list + (<usize>i << 3), 8) < floor) continue;
    store<u64>(list + (<usize>left << 3), entry, 8);
    left++;
  }
  store<i32>(list, left > word(op, 22) ? capacity + 1 : left);
  if (left > word(op, 22)) return;
  let have = -1;
  for (let i = 0; i < left; i++) {
    if (aborted()) return;
    const at = list + (<usize>i << 3), id = load<i32>(at, 12), panel = id >> 4;
    if (panel != have) {
      panelProduct(word(mat, 0), <usize>load<u32>(mat + MAT_DATA) + <usize>panel * <usize>load<u32>(mat + MAT_PANEL), pointer(op, 21), 0, 1, K, scratch);
      for (let j: usize = 0; j < 64; j += 16)
        v128.store(tile + j, final4(v128.load(tile + j), pointer(op, 6), (<usize>panel << 6) + j, real(op, 7), real(op, 12)));
      have = panel;
    }
    store<f32>(at, load<f32>(tile + (<usize>(id & 15) << 2)), 8);
  }
}
