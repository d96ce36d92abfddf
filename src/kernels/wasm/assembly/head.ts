import {
  B8, CTL, CTL_ROWS, CTL_FAULT, MAT_COLS, MAT_DATA, MAT_FORMAT, MAT_PANEL, MAT_ROWS, aborted, pointer, quantBytes, real,
  scratchOf, share, word,
} from "./abi";
import { exp4, gumbel4, max4, tanh4 } from "./math";
import { panelProduct } from "./panels";
import { partialOf } from "./tile";

// The head's pass over the vocabulary: shards of 1024 ids, 64 panels each. A thread takes neighbouring shards, so the
// ids that it meets ascend. For each shard and up to 64 rows it makes final logits [rows][1024] in its scratch, then
// folds them. What a shard contributes to a sum depends on the shard alone; the host merges shards in order.

export const SHARD: i32 = 1024;
const LOGITS: usize = 65536; // offset of [64][1024] f32 in the scratch
const HEAD_ROWS: i32 = 64;

/** bias, scale and cap of four products; `at`: byte offset of their ids' biases. */
@inline
export function final4(v: v128, bias: usize, at: usize, scale: f32, cap: f32): v128 {
  if (bias) v = f32x4.add(v, v128.load(bias + at));
  if (scale != 1) v = f32x4.mul(v, f32x4.splat(scale));
  if (cap > 0) v = f32x4.mul(tanh4(f32x4.div(v, f32x4.splat(cap))), f32x4.splat(cap));
  return v;
}
/** A panel's 16 products to final logits at `to`; ids at or above V become -Infinity. */
@inline
export function finish(from: usize, to: usize, id: i32, V: i32, bias: usize, scale: f32, cap: f32): void {
  for (let i: usize = 0; i < 64; i += 16) v128.store(to + i, final4(v128.load(from + i), bias, (<usize>id << 2) + i, scale, cap));
  for (let i = max(0, V - id); i < 16; i++) store<f32>(to + (<usize>i << 2), -Infinity);
}

/** Op: logits of given (row, id) pairs, by the same product as the full pass, so to the same bits. */
export function targets(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), K = word(mat, 3), format = word(mat, 0), V = word(op, 5);
  const count = word(op, 9), perRow = word(op, 10), ids = pointer(op, 8), out = pointer(op, 11);
  const x = pointer(op, 3), stride = pointer(op, 4), scratch = scratchOf(tid), o = partialOf(scratch);
  for (let t = share(count, tid, nt); t < share(count, tid + 1, nt); t++) {
    if (aborted()) return;
    const id = load<i32>(ids + (<usize>t << 2));
    panelProduct(format, <usize>load<u32>(mat + MAT_DATA) + <usize>(id >> 4) * <usize>load<u32>(mat + MAT_PANEL), x + <usize>(t / perRow) * stride, stride, 1, K, scratch);
    finish(o, o, id & ~15, V, pointer(op, 6), real(op, 7), real(op, 12));
    store<f32>(out + (<usize>t << 2), load<f32>(o + (<usize>(id & 15) << 2)));
  }
}

// Heap of the k best, worst at the root: (logit f32, id i32), 8 bytes each. Word 0 of a heap's record is its size,
// then entries from byte 8.
@inline
function worse(a: f32, ai: i32, b: f32, bi: i32): bool {
  return a < b || (a == b && ai > bi);
}
export function heapPush(heap: usize, k: i32, x: f32, id: i32): void {
  let n = load<i32>(heap);
  const e = heap + 8;
  let i = 0;
  if (n < k) {
    i = n++;
    store<i32>(heap, n);
    while (i > 0) {
      const p = (i - 1) >> 1, pa = e + (<usize>p << 3);
      if (!worse(x, id, load<f32>(pa), load<i32>(pa, 4))) break;
      store<u64>(e + (<usize>i << 3), load<u64>(pa));
      i = p;
    }
  } else {
    for (;;) {
      let c = 2 * i + 1;
      if (c >= n) break;
      let ca = e + (<usize>c << 3);
      if (c + 1 < n && worse(load<f32>(ca, 8), load<i32>(ca, 12), load<f32>(ca), load<i32>(ca, 4))) {
        c++;
        ca += 8;
      }
      if (!worse(load<f32>(ca), load<i32>(ca, 4), x, id)) break;
      store<u64>(e + (<usize>i << 3), load<u64>(ca));
      i = c;
    }
  }
  store<f32>(e + (<usize>i << 3), x);
  store<i32>(e + (<usize>i << 3), id, 4);
}
/** What a logit must exceed to enter: the worst entry of a full heap, else nothing is too small. */
@inline
export function heapFloor(heap: usize, k: i32): f32 {
  return load<i32>(heap) < k ? -Infinity : load<f32>(heap, 8);
}

function topShard(p: usize, n: i32, id: i32, heap: usize, k: i32, V: i32): void {
  let i = 0;
  for (; i < n && load<i32>(heap) < k; i++) if (id + i < V) heapPush(heap, k, load<f32>(p + (<usize>i << 2)), id + i);
  let floor = heapFloor(heap, k);
  for (; i < n && (i & 3); i++) {
    const x = load<f32>(p + (<usize>i << 2));
    if (x > floor && id + i < V) {
      heapPush(heap, k, x, id + i);
      floor = heapFloor(heap, k);
    }
  }
  for (; i < n; i += 4) {
    if (!v128.any_true(f32x4.gt(v128.load(p + (<usize>i << 2)), f32x4.splat(floor)))) continue;
    for (let j = i; j < i + 4; j++) {
      const x = load<f32>(p + (<usize>j << 2));
      if (x > floor && j < n) {
        heapPush(heap, k, x, id + j);
        floor = heapFloor(heap, k);
      }
    }
  }
}

/** The largest of n numbers, or NaN when one of them is. */
@inline
export function maximum(p: usize, n: i32): f32 {
  let m = f32x4.splat(-Infinity), bad = i32x4.splat(0);
  for (let i: usize = 0; i < <usize>n << 2; i += 16) {
    const x = v128.load(p + i);
    m = f32x4.pmax(m, x);
    bad = v128.or(bad, f32x4.ne(x, x));
  }
  return v128.any_true(bad) ? f32.NaN : max4(m);
}

/** Σ e^(x - m) and, asked for, Σ (x - m) e^(x - m), in float64 over groups of 16. out: m, s, t as f64. */
export function sumShard(p: usize, n: i32, m: f32, entropy: bool, out: usize): void {
  let s = f64x2.splat(0), t = s;
  const mv = f32x4.splat(m), low = f32x4.splat(-1e30);
  if (m > -Infinity)
    for (let i: usize = 0; i < <usize>n << 2; i += 64) {
      let es = f32x4.splat(0), ts = es;
      for (let j: usize = 0; j < 64; j += 16) {
        const x = f32x4.sub(v128.load(p + i + j), mv), e = exp4(x);
        es = f32x4.add(es, e);
        // x may be -Infinity where e is 0.
        if (entropy) ts = f32x4.add(ts, f32x4.mul(f32x4.pmax(x, low), e));
      }
      s = f64x2.add(s, f64x2.add(f64x2.promote_low_f32x4(es), f64x2.promote_low_f32x4(v128.shuffle<i32>(es, es, 2, 3, 2, 3))));
      if (entropy) t = f64x2.add(t, f64x2.add(f64x2.promote_low_f32x4(ts), f64x2.promote_low_f32x4(v128.shuffle<i32>(ts, ts, 2, 3, 2, 3))));
    }
  store<f64>(out, <f64>m);
  store<f64>(out, f64x2.extract_lane(s, 0) + f64x2.extract_lane(s, 1), 8);
  store<f64>(out, f64x2.extract_lane(t, 0) + f64x2.extract_lane(t, 1), 16);
}

function countAbove(p: usize, n: i32, x: f32): i32 {
  let c = i32x4.splat(0);
  const v = f32x4.splat(x);
  for (let i: usize = 0; i < <usize>n << 2; i += 16) c = i32x4.sub(c, f32x4.gt(v128.load(p + i), v));
  return i32x4.extract_lane(c, 0) + i32x4.extract_lane(c, 1) + i32x4.extract_lane(c, 2) + i32x4.extract_lane(c, 3);
}

/** Logits over temperature plus noise; best: value f32, id i32, logit f32. Equal values: the lower id stays; the host refuses infinite ones. */
export function sampleShard(p: usize, n: i32, id: i32, key0: i32, key1: i32, temperature: f32, best: usize): void {
  let top = load<f32>(best);
  const tv = f32x4.splat(temperature);
  for (let i = 0; i < n; i += 4) {
    const x = v128.load(p + (<usize>i << 2));
    const g = gumbel4(key0, key1, i32x4.add(i32x4.splat(id + i), i32x4(0, 1, 2, 3)));
    const y = f32x4.add(temperature == 1 ? x : f32x4.div(x, tv), g);
    if (!v128.any_true(f32x4.gt(y, f32x4.splat(top)))) continue;
    for (let j = 0; j < 4; j++) {
      const value = j == 0 ? f32x4.extract_lane(y, 0) : j == 1 ? f32x4.extract_lane(y, 1) : j == 2 ? f32x4.extract_lane(y, 2) : f32x4.extract_lane(y, 3);
      if (value > top) {
        top = value;
        store<f32>(best, value);
        store<i32>(best, id + i + j, 4);
        store<f32>(best, load<f32>(p + (<usize>(i + j) << 2)), 8);
      }
    }
  }
}

/**
 * Op: the full pass. Words: 2 matrix, 3 x, 4 stride, 5 V, 6 bias, 7 scale, 8 shards' sums [N][shards][3] f64 or 0,
 * 9 entropy?, 10 k, 11 heaps [threads][N][8 + 8k], 12 cap, 13 logits out [N][V] or 0, 14 targets' logits, 15 per row,
 * 16 ranks [threads][N·perRow] i32 or 0, 17 sample keys [N][2] or 0, 18 temperature,
 * 19 bests [threads][N][16]: as `sampleShard` has them, and i32 1 once a logit was above -Infinity,
 * 20 row flags [N] i32 (1: NaN or +Infinity), 21 first shard, 22 last shard.
 */
export function head(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), K = word(mat, 3), format = word(mat, 0), V = word(op, 5), N = load<i32>(CTL + CTL_ROWS);
  const data = <usize>load<u32>(mat + MAT_DATA), panelBytes = <usize>load<u32>(mat + MAT_PANEL);
  const stride = pointer(op, 4), bias = pointer(op, 6), scale = real(op, 7), cap = real(op, 12);
  const sums = pointer(op, 8), k = word(op, 10), heapBytes = <usize>(8 + 8 * k), perRow = word(op, 15);
  const scratch = scratchOf(tid), tile = partialOf(scratch), logits = scratch + LOGITS, flags = pointer(op, 20);
  const shards = (V + SHARD - 1) / SHARD, a = word(op, 21), z = word(op, 22);
  for (let s = a + share(z - a, tid, nt); s < a + share(z - a, tid + 1, nt); s++) {
    const id = s * SHARD, n = min(SHARD, V - id), padded = (n + 15) & ~15;
    for (let r0 = 0; r0 < N; r0 += HEAD_ROWS) {
      const rows = min(HEAD_ROWS, N - r0), x = pointer(op, 3) + <usize>r0 * stride;
      for (let c = 0; c < padded; c += 16) {
        if (aborted()) return;
        panelProduct(format, data + <usize>((id + c) >> 4) * panelBytes, x, stride, rows, K, scratch);
        for (let r = 0; r < rows; r++) finish(tile + (<usize>r << 6), logits + (<usize>(r * SHARD + c) << 2), id + c, V, bias, scale, cap);
      }
      for (let r = 0; r < rows; r++) {
        const row = r0 + r, p = logits + (<usize>(r * SHARD) << 2);
        const m = maximum(p, padded);
        if (!(m < Infinity)) store<i32>(flags + (<usize>row << 2), 1);
        if (sums) sumShard(p, padded, m, word(op, 9) != 0, sums + <usize>(row * shards + s) * 24);
        if (k) topShard(p, n, id, pointer(op, 11) + <usize>(tid * N + row) * heapBytes, k, V);
        if (pointer(op, 16))
          for (let t = 0; t < perRow; t++) {
            const at = pointer(op, 16) + (<usize>((tid * N + row) * perRow + t) << 2);
            store<i32>(at, load<i32>(at) + countAbove(p, padded, load<f32>(pointer(op, 14) + (<usize>(row * perRow + t) << 2))));
          }
        if (pointer(op, 17)) {
          const key = pointer(op, 17) + (<usize>row << 3), best = pointer(op, 19) + (<usize>(tid * N + row) << 4);
          if (m > -Infinity) store<i32>(best, 1, 12);
          sampleShard(p, padded, id, load<i32>(key), load<i32>(key, 4), real(op, 18), best);
        }
        if (pointer(op, 13)) memory.copy(pointer(op, 13) + ((<usize>row * <usize>V + <usize>id) << 2), p, <usize>n << 2);
      }
    }
  }
}
