import { pointer, real, share, word } from "./abi";
import { mix4 } from "./math";

@inline
function mix(v: i32): i32 {
  let x = v ^ (v >>> 16);
  x *= 0x85ebca6b;
  x ^= x >>> 13;
  x *= 0xc2b2ae35;
  return x ^ (x >>> 16);
}

/**
 * Op: numbers dropped or scaled in place, on the way there and on the way back; the mask is that of reference/dropout.ts,
 * and split by columns as other pointwise ops. Words: 2 buffer, 3 its stride, 4 rows, 5 panels of 16 columns, 6 and 7 key,
 * 8 threshold, 9 scale.
 */
export function dropout(op: usize, tid: i32, nt: i32): void {
  const panels = word(op, 5), from = share(panels, tid, nt) << 4, end = share(panels, tid + 1, nt) << 4, key = word(op, 7);
  const threshold = i32x4.splat(word(op, 8)), scale = f32x4.splat(real(op, 9)), second = i32x4.splat(key), four = i32x4.splat(4);
  for (let n = 0; n < word(op, 4); n++) {
    const x = pointer(op, 2) + <usize>n * pointer(op, 3), row = i32x4.splat(mix(mix(n ^ word(op, 6)) + key));
    let column = i32x4.add(i32x4.splat(from), i32x4(0, 1, 2, 3));
    for (let c = from; c < end; c += 4) {
      const at = x + (<usize>c << 2), bits = mix4(i32x4.add(mix4(v128.xor(column, row)), second));
      v128.store(at, v128.and(f32x4.mul(v128.load(at), scale), i32x4.ge_u(bits, threshold)));
      column = i32x4.add(column, four);
    }
  }
}
