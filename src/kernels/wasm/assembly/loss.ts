import { MAT_DATA, MAT_PANEL, aborted, pointer, real, scratchOf, share, word } from "./abi";
import { SHARD, finish, maximum, sumShard } from "./head";
import { exp4 } from "./math";
import { panelProduct } from "./panels";
import { ROW_CHUNK, partialOf } from "./tile";

// Linear + cross-entropy for a chunk of rows, of which all logits stand in memory, [rows][stride]: made once, folded,
// turned into their own gradient in place, and multiplied into the gradients of hidden states and weights. Three products.
// Every sum runs in index order (over k, v or n), whatever the chunk and the threads.

/** Op: final logits of a chunk. Words: 2 matrix, 3 x, 4 its stride, 5 V, 6 bias, 7 scale, 8 logits, 9 their stride, 10 rows, 11 cap. */
export function lossLogits(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), K = word(mat, 3), V = word(op, 5), panels = (V + 15) >> 4, scratch = scratchOf(tid), tile = partialOf(scratch);
  for (let panel = share(panels, tid, nt); panel < share(panels, tid + 1, nt); panel++)
    for (let r0 = 0; r0 < word(op, 10); r0 += ROW_CHUNK) {
      if (aborted()) return;
      const rows = min(ROW_CHUNK, word(op, 10) - r0), to = pointer(op, 8) + <usize>r0 * pointer(op, 9) + (<usize>panel << 6);
      panelProduct(word(mat, 0), <usize>load<u32>(mat + MAT_DATA) + <usize>panel * <usize>load<u32>(mat + MAT_PANEL), pointer(op, 3) + <usize>r0 * pointer(op, 4), pointer(op, 4), rows, K, scratch);
      for (let r = 0; r < rows; r++) finish(tile + (<usize>r << 6), to + <usize>r * pointer(op, 9), panel << 4, V, pointer(op, 6), real(op, 7), real(op, 11));
    }
}

/**
 * Op: folds a chunk. Words: 5 V, 8 logits, 9 stride, 10 rows, 11 sums [rows][shards][3] f64, 12 flags [rows] i32 (1: NaN or
 * +Infinity), 13 Σ weight · logit [rows] f64 or 0, 14 weights [V], padded with zeros, 15 ids [rows][perRow], 16 perRow,
 * 17 their logits [rows][perRow].
 */
export function lossFold(op: usize, tid: i32, nt: i32): void {
  const V = word(op, 5), rows = word(op, 10), shards = (V + SHARD - 1) / SHARD;
  for (let r = share(rows, tid, nt); r < share(rows, tid + 1, nt); r++) {
    if (aborted()) return;
    const y = pointer(op, 8) + <usize>r * pointer(op, 9);
    for (let s = 0; s < shards; s++) {
      const p = y + (<usize>(s * SHARD) << 2), n = (min(SHARD, V - s * SHARD) + 15) & ~15, m = maximum(p, n);
      if (!(m < Infinity)) store<i32>(pointer(op, 12) + (<usize>r << 2), 1);
      sumShard(p, n, m, false, pointer(op, 11) + <usize>(r * shards + s) * 24);
    }
    for (let j = r * word(op, 16); j < (r + 1) * word(op, 16); j++)
      store<f32>(pointer(op, 17) + (<usize>j << 2), load<f32>(y + (<usize>load<i32>(pointer(op, 15) + (<usize>j << 2)) << 2)));
    if (pointer(op, 13)) store<f64>(pointer(op, 13) + (<usize>r << 3), weigh(y, pointer(op, 14), V));
  }
}
/** Σ weight · logit; where a weight is 0 its logit may be -Infinity. */
function weigh(y: usize, weights: usize, V: i32): f64 {
  let a = f64x2.splat(0), b = a;
  const zero = f32x4.splat(0);
  for (let i: usize = 0; i < <usize>V << 2; i += 16) {
    const w = v128.load(weights + i), x = v128.andnot(f32x4.mul(v128.load(y + i), w), f32x4.eq(w, zero));
    a = f64x2.add(a, f64x2.promote_low_f32x4(x));
    b = f64x2.add(b, f64x2.promote_low_f32x4(v128.shuffle<i32>(x, x, 2, 3, 2, 3)));
  }
  a = f64x2.add(a, b);
  return f64x2.extract_lane(a, 0) + f64x2.extract_lane(a, 1);
}

/** What a row's gradient needs, 8 f32: the largest logit, 1 / Σ e^(y - largest), Σ of all coefficients, uniform; the teacher's largest, 1 / Σ, coefficient. */
const ROW: usize = 32;

/**
 * Op: logits to their gradients, in place. Words: 5 V, 7 scale, 8 logits, 9 stride, 10 rows, 11 cap, 12 rows' numbers, 13 ids
 * [rows][perRow], 14 perRow, 15 coefficients, 16 class weights, 17 teacher's logits (same stride) or 0, 18 Σ t·y [rows] f64,
 * 19 the ids' logits [rows][perRow], 20 the gradient filter's ε, 21 the blocks that it keeps [rows][panels] u8 or 0, 22 their
 * number [rows] i32. A block (a row's 16 ids of one panel) is kept for a probability of ε or more, or an id with a coefficient.
 */
export function lossGradient(op: usize, tid: i32, nt: i32): void {
  const V = word(op, 5), rows = word(op, 10), perRow = word(op, 14), scale = real(op, 7), cap = real(op, 11);
  for (let r = share(rows, tid, nt); r < share(rows, tid + 1, nt); r++) {
    if (aborted()) return;
    const y = pointer(op, 8) + <usize>r * pointer(op, 9), own = pointer(op, 12) + <usize>r * ROW;
    const teacher = pointer(op, 17) ? pointer(op, 17) + <usize>r * pointer(op, 9) : 0;
    const kept = pointer(op, 21) ? pointer(op, 21) + <usize>r * <usize>((V + 15) >> 4) : 0;
    const dot = differentiate(y, V, own, pointer(op, 16), teacher, scale, cap, real(op, 20), kept);
    if (teacher) store<f64>(pointer(op, 18) + (<usize>r << 3), dot);
    for (let j = r * perRow; j < (r + 1) * perRow; j++) {
      const at = <usize>j << 2, id = <usize>load<i32>(pointer(op, 13) + at), to = y + (id << 2);
      const coefficient = load<f32>(pointer(op, 15) + at);
      if (kept && coefficient != 0) store<u8>(kept + (id >> 4), 1);
      store<f32>(to, load<f32>(to) - coefficient * slope(load<f32>(pointer(op, 19) + at), scale, cap));
    }
    for (let c = V; c < ((V + 15) & ~15); c++) store<f32>(y + (<usize>c << 2), 0);
    if (kept) store<i32>(pointer(op, 22) + (<usize>r << 2), sumBytes(kept, (V + 15) >> 4));
  }
}
function sumBytes(bytes: usize, count: i32): i32 {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += load<u8>(bytes + <usize>i);
  return sum;
}
/** d(final logit) / d(product). */
@inline
function slope(y: f32, scale: f32, cap: f32): f32 {
  const b = cap > 0 ? y / cap : 0;
  return scale * (1 - b * b);
}
/** y ← slope · (total · p - uniform · weights - soft · t); returns Σ t · y. `kept`: 1 for each panel with a p or t from ε, or 0. */
@inline
function differentiate(y: usize, V: i32, own: usize, weights: usize, teacher: usize, scale: f32, cap: f32, epsilon: f32, kept: usize): f64 {
  const m = v128.load32_splat(own), inv = v128.load32_splat(own, 4), total = v128.load32_splat(own, 8), uniform = v128.load32_splat(own, 12);
  const tm = v128.load32_splat(own, 16), tinv = v128.load32_splat(own, 20), soft = v128.load32_splat(own, 24);
  const s = f32x4.splat(scale), cv = f32x4.splat(cap), one = f32x4.splat(1), zero = f32x4.splat(0), least = f32x4.splat(epsilon);
  let most = zero, dot = f64x2.splat(0);
  const end = <usize>((V + 15) & ~15) << 2;
  for (let i: usize = 0; i < end; i += 16) {
    const x = v128.load(y + i);
    const p = f32x4.mul(exp4(f32x4.sub(x, m)), inv);
    let g = f32x4.mul(total, p);
    most = f32x4.pmax(most, p);
    if (weights) g = f32x4.sub(g, f32x4.mul(uniform, v128.load(weights + i)));
    if (teacher) {
      const t = f32x4.mul(exp4(f32x4.sub(v128.load(teacher + i), tm)), tinv), z = v128.andnot(f32x4.mul(t, x), f32x4.eq(t, zero));
      g = f32x4.sub(g, f32x4.mul(soft, t));
      most = f32x4.pmax(most, t);
      dot = f64x2.add(dot, f64x2.add(f64x2.promote_low_f32x4(z), f64x2.promote_low_f32x4(v128.shuffle<i32>(z, z, 2, 3, 2, 3))));
    }
    if (cap > 0) {
      const b = f32x4.div(x, cv);
      g = f32x4.mul(g, f32x4.sub(one, f32x4.mul(b, b)));
    }
    v128.store(y + i, f32x4.mul(g, s));
    // The last of a panel's four vectors.
    if (kept && (i & 48) == 48) {
      store<u8>(kept++, <u8>v128.any_true(f32x4.ge(most, least)));
      most = zero;
    }
  }
  return f64x2.extract_lane(dot, 0) + f64x2.extract_lane(dot, 1);
}
