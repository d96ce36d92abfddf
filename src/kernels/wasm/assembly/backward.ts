import { MAT_DATA, MAT_PANEL, pointer, real, share, word } from "./abi";
import { act4, slope4 } from "./math";

// The way back of everything that is not a product. Where many rows add to one number (a norm's weight, a key, a row of a
// table), one thread adds them all, in order.

/** Op: mean and 1/√(variance + eps) of each group of each row. Words: 2 x, 3 its stride, 4 out [rows][groups][2], 5 rows, 6 columns, 7 group, 8 rms?, 9 eps. */
export function normMoments(op: usize, tid: i32, nt: i32): void {
  const rows = word(op, 5), group = word(op, 7), groups = word(op, 6) / group;
  for (let n = share(rows, tid, nt); n < share(rows, tid + 1, nt); n++)
    for (let g = 0; g < groups; g++) {
      const x = pointer(op, 2) + <usize>n * pointer(op, 3) + (<usize>(g * group) << 2), out = pointer(op, 4) + (<usize>(n * groups + g) << 3);
      let mean: f64 = 0, square: f64 = 0;
      if (!word(op, 8)) {
        for (let i = 0; i < group; i++) mean += load<f32>(x + (<usize>i << 2));
        mean /= <f64>group;
      }
      for (let i = 0; i < group; i++) {
        const d = <f64>load<f32>(x + (<usize>i << 2)) - mean;
        square += d * d;
      }
      store<f32>(out, <f32>mean);
      store<f32>(out, <f32>(1 / sqrt<f64>(square / <f64>group + <f64>real(op, 9))), 4);
    }
}

/**
 * Op: dWeight += Σ dOut · x̂ and dBias += Σ dOut. Words: 2 x, 3 its stride, 4 moments, 5 rows, 6 columns, 7 group, 8 dOut,
 * 9 its stride, 10 dWeight or 0, 11 dBias or 0, 12 length of both (group or columns).
 */
export function normVectors(op: usize, tid: i32, nt: i32): void {
  const rows = word(op, 5), columns = word(op, 6), group = word(op, 7), groups = columns / group, length = word(op, 12);
  for (let i = share(length, tid, nt); i < share(length, tid + 1, nt); i++) {
    let weight: f64 = 0, bias: f64 = 0;
    for (let n = 0; n < rows; n++)
      for (let c = i; c < columns; c += length) {
        const moments = pointer(op, 4) + (<usize>(n * groups + c / group) << 3), at = <usize>c << 2;
        const g = <f64>load<f32>(pointer(op, 8) + <usize>n * pointer(op, 9) + at);
        weight += g * (<f64>load<f32>(pointer(op, 2) + <usize>n * pointer(op, 3) + at) - <f64>load<f32>(moments)) * <f64>load<f32>(moments, 4);
        bias += g;
      }
    const at = <usize>i << 2;
    if (pointer(op, 10)) store<f32>(pointer(op, 10) + at, <f32>(<f64>load<f32>(pointer(op, 10) + at) + weight));
    if (pointer(op, 11)) store<f32>(pointer(op, 11) + at, <f32>(<f64>load<f32>(pointer(op, 11) + at) + bias));
  }
}

/**
 * Op: dx += (g - mean(g) - x̂ · mean(g · x̂)) / √(…) with g = dOut · weight; dOut is zero afterwards, and may be dx. Words: 2 x,
 * 3 its stride, 4 moments, 5 rows, 6 columns, 7 group, 8 dOut, 9 its stride, 10 weight or 0, 11 rms?, 12 weight's length, 13 dx, 14 its stride.
 */
export function normInput(op: usize, tid: i32, nt: i32): void {
  const rows = word(op, 5), columns = word(op, 6), group = word(op, 7), groups = columns / group, weight = pointer(op, 10);
  for (let n = share(rows, tid, nt); n < share(rows, tid + 1, nt); n++)
    for (let c0 = 0; c0 < columns; c0 += group) {
      const at = <usize>c0 << 2, x = pointer(op, 2) + <usize>n * pointer(op, 3) + at, dOut = pointer(op, 8) + <usize>n * pointer(op, 9) + at, dx = pointer(op, 13) + <usize>n * pointer(op, 14) + at;
      const w = weight ? weight + (word(op, 12) == group ? 0 : at) : 0, moments = pointer(op, 4) + (<usize>(n * groups + c0 / group) << 3);
      const mean = <f64>load<f32>(moments), inverse = <f64>load<f32>(moments, 4);
      let sum: f64 = 0, along: f64 = 0;
      for (let i: usize = 0; i < <usize>group << 2; i += 4) {
        const g = <f64>load<f32>(dOut + i) * (w ? <f64>load<f32>(w + i) : 1);
        sum += g;
        along += g * (<f64>load<f32>(x + i) - mean) * inverse;
      }
      sum = word(op, 11) ? 0 : sum / <f64>group;
      along /= <f64>group;
      for (let i: usize = 0; i < <usize>group << 2; i += 4) {
        const g = <f64>load<f32>(dOut + i) * (w ? <f64>load<f32>(w + i) : 1);
        store<f32>(dOut + i, 0);
        store<f32>(dx + i, <f32>(<f64>load<f32>(dx + i) + (g - sum - (<f64>load<f32>(x + i) - mean) * inverse * along) * inverse));
      }
    }
}

/**
 * Op: through an activation, dOut ← dOut · act'(x); or through a gate, dGate += dOut · up · act'(gate), dUp += dOut · act(gate),
 * with dOut zero afterwards (it may be one of the two). Words: 2 x or gate, 3 stride, 4 up or 0, 5 its stride, 6 dOut, 7 its stride,
 * 8 dGate, 9 its stride, 10 dUp, 11 its stride, 12 rows, 13 columns (whole vectors), 14 activation.
 */
export function actGradient(op: usize, tid: i32, nt: i32): void {
  const kind = word(op, 14), bytes = <usize>word(op, 13) << 2;
  for (let n = share(word(op, 12), tid, nt); n < share(word(op, 12), tid + 1, nt); n++) {
    const r = <usize>n, x = pointer(op, 2) + r * pointer(op, 3), up = pointer(op, 4), dOut = pointer(op, 6) + r * pointer(op, 7);
    const dGate = pointer(op, 8) + r * pointer(op, 9), dUp = pointer(op, 10) + r * pointer(op, 11);
    for (let i: usize = 0; i < bytes; i += 16) {
      const v = v128.load(x + i), d = v128.load(dOut + i), s = f32x4.mul(d, slope4(kind, v));
      if (!up) {
        v128.store(dOut + i, s);
        continue;
      }
      v128.store(dOut + i, f32x4.splat(0));
      v128.store(dGate + i, f32x4.add(v128.load(dGate + i), f32x4.mul(s, v128.load(up + r * pointer(op, 5) + i))));
      v128.store(dUp + i, f32x4.add(v128.load(dUp + i), f32x4.mul(d, act4(kind, v))));
    }
  }
}

/** Op: rows of a table += scale · dOut. Words: 2 matrix, 3 ids [rows], 4 dOut, 5 its stride, 6 rows, 7 offset added to ids, 8 scale. */
export function scatter(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), K = word(mat, 3), scale = real(op, 8);
  for (let n = 0; n < word(op, 6); n++) {
    const id = load<i32>(pointer(op, 3) + (<usize>n << 2)) + word(op, 7), dOut = pointer(op, 4) + <usize>n * pointer(op, 5);
    const row = <usize>load<u32>(mat + MAT_DATA) + <usize>(id >> 4) * <usize>load<u32>(mat + MAT_PANEL) + (<usize>(id & 15) << 2);
    for (let k = share(K, tid, nt); k < share(K, tid + 1, nt); k++)
      store<f32>(row + (<usize>k << 6), load<f32>(row + (<usize>k << 6)) + scale * load<f32>(dOut + (<usize>k << 2)));
  }
}

/** Op: zeros. Words: 2 to, 3 its stride, 4 rows, 5 columns. */
export function clear(op: usize, tid: i32, nt: i32): void {
  for (let n = share(word(op, 4), tid, nt); n < share(word(op, 4), tid + 1, nt); n++) memory.fill(pointer(op, 2) + <usize>n * pointer(op, 3), 0, <usize>word(op, 5) << 2);
}
