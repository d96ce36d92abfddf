// What the products of panels share.

const PARTIAL: usize = 32768; // offset of the [rows][16] results in a thread's scratch
/** Rows of one call of a panel product, at most. */
export const ROW_CHUNK: i32 = 128;

@inline
export function partialOf(scratch: usize): usize {
  return scratch + PARTIAL;
}

@inline
export function mad(acc: v128, a: v128, b: v128): v128 {
  return f32x4.add(acc, f32x4.mul(a, b));
}

@inline
export function store4(out: usize, a: v128, b: v128, c: v128, d: v128): void {
  v128.store(out, a);
  v128.store(out, b, 16);
  v128.store(out, c, 32);
  v128.store(out, d, 48);
}
