// AssemblyScript. Two ceilings, with which the benchmarks compare: how fast this machine reads memory, and how fast
// 128-bit SIMD multiplies and adds in f32. Compiled by bench/lib.mjs when a benchmark starts.

/** Reads `bytes` (a multiple of 128) at `at` and does next to nothing with them: the read-bandwidth probe. */
export function read(at: usize, bytes: usize): f32 {
  const end = at + bytes;
  let a = f32x4.splat(0),
    b = a,
    c = a,
    d = a,
    e = a,
    f = a,
    g = a,
    h = a;
  for (; at < end; at += 128) {
    a = f32x4.add(a, v128.load(at));
    b = f32x4.add(b, v128.load(at, 16));
    c = f32x4.add(c, v128.load(at, 32));
    d = f32x4.add(d, v128.load(at, 48));
    e = f32x4.add(e, v128.load(at, 64));
    f = f32x4.add(f, v128.load(at, 80));
    g = f32x4.add(g, v128.load(at, 96));
    h = f32x4.add(h, v128.load(at, 112));
  }
  a = f32x4.add(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)), f32x4.add(f32x4.add(e, f), f32x4.add(g, h)));
  return (
    f32x4.extract_lane(a, 0) + f32x4.extract_lane(a, 1) + f32x4.extract_lane(a, 2) + f32x4.extract_lane(a, 3)
  );
}

/** `rounds` times 12 independent multiply-and-adds of 4 lanes, all in registers: 96 operations a round. */
export function peak(rounds: i32, x: f32, y: f32): f32 {
  const p = f32x4.splat(x),
    q = f32x4.splat(y);
  let a = f32x4.splat(1),
    b = f32x4.splat(2),
    c = f32x4.splat(3),
    d = f32x4.splat(4);
  let e = f32x4.splat(5),
    f = f32x4.splat(6),
    g = f32x4.splat(7),
    h = f32x4.splat(8);
  let i = f32x4.splat(9),
    j = f32x4.splat(10),
    k = f32x4.splat(11),
    l = f32x4.splat(12);
  for (let round = 0; round < rounds; round++) {
    a = f32x4.add(f32x4.mul(a, p), q);
    b = f32x4.add(f32x4.mul(b, p), q);
    c = f32x4.add(f32x4.mul(c, p), q);
    d = f32x4.add(f32x4.mul(d, p), q);
    e = f32x4.add(f32x4.mul(e, p), q);
    f = f32x4.add(f32x4.mul(f, p), q);
    g = f32x4.add(f32x4.mul(g, p), q);
    h = f32x4.add(f32x4.mul(h, p), q);
    i = f32x4.add(f32x4.mul(i, p), q);
    j = f32x4.add(f32x4.mul(j, p), q);
    k = f32x4.add(f32x4.mul(k, p), q);
    l = f32x4.add(f32x4.mul(l, p), q);
  }
  a = f32x4.add(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)), f32x4.add(f32x4.add(e, f), f32x4.add(g, h)));
  a = f32x4.add(a, f32x4.add(f32x4.add(i, j), f32x4.add(k, l)));
  return (
    f32x4.extract_lane(a, 0) + f32x4.extract_lane(a, 1) + f32x4.extract_lane(a, 2) + f32x4.extract_lane(a, 3)
  );
}
