// Elementary functions on four lanes, in float32 steps. Sources: Cephes (expf, logf, tanhf), Eigen (erf).

@inline
function splat(x: f32): v128 {
  return f32x4.splat(x);
}
@inline
function madd(a: v128, b: v128, c: f32): v128 {
  return f32x4.add(f32x4.mul(a, b), splat(c));
}

// V8 builds a vector constant anew, by several instructions, at every use in a loop; a splat from memory is one.
const EXP = memory.data<f32>([
  88.72, -87.33, 1.44269504088896341, 0.693359375, -2.12194440e-4, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3,
  4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1, 12582912,
]);
@inline
function exp(i: usize): v128 {
  return v128.load32_splat(EXP + (i << 2));
}

/** e^x; 0 below -87.3 (where float32 leaves its normal range), NaN stays NaN. */
@inline
export function exp4(x: v128): v128 {
  // pmin and pmax are one instruction where min and max are seven, and let NaN through in this order of arguments.
  const t = f32x4.pmax(f32x4.pmin(x, exp(0)), exp(1));
  // Adding 1.5·2^23 rounds to a whole number, which then stands in the low bits.
  const magic = exp(12), whole = f32x4.add(f32x4.mul(t, exp(2)), magic);
  const n = f32x4.sub(whole, magic);
  let r = f32x4.sub(t, f32x4.mul(n, exp(3)));
  r = f32x4.sub(r, f32x4.mul(n, exp(4)));
  let y = f32x4.add(f32x4.mul(exp(5), r), exp(6));
  y = f32x4.add(f32x4.mul(y, r), exp(7));
  y = f32x4.add(f32x4.mul(y, r), exp(8));
  y = f32x4.add(f32x4.mul(y, r), exp(9));
  y = f32x4.add(f32x4.mul(y, r), exp(10));
  y = f32x4.add(f32x4.add(f32x4.mul(y, f32x4.mul(r, r)), r), exp(11));
  // 2^n in two steps: n may be 128. A power's exponent is added to 1's.
  const i = i32x4.sub(whole, magic), h = i32x4.shr_s(i, 1);
  y = f32x4.mul(y, i32x4.add(i32x4.shl(h, 23), exp(11)));
  y = f32x4.mul(y, i32x4.add(i32x4.shl(i32x4.sub(i, h), 23), exp(11)));
  return v128.andnot(y, f32x4.lt(x, exp(1)));
}

/** ln x of positive normal numbers; the same steps as log32 in reference/gumbel.ts, to the bit. */
@inline
export function log4(x: v128): v128 {
  let e = i32x4.sub(i32x4.shr_s(x, 23), i32x4.splat(126));
  let m = v128.or(v128.and(x, i32x4.splat(0x007fffff)), i32x4.splat(0x3f000000));
  const small = f32x4.lt(m, splat(0.70710678118654752));
  e = i32x4.add(e, small); // true lanes are -1
  m = f32x4.sub(v128.bitselect(f32x4.add(m, m), m, small), splat(1));
  const z = f32x4.mul(m, m);
  let y = madd(splat(7.0376836292e-2), m, -1.151461031e-1);
  y = madd(y, m, 1.1676998740e-1);
  y = madd(y, m, -1.2420140846e-1);
  y = madd(y, m, 1.4249322787e-1);
  y = madd(y, m, -1.6668057665e-1);
  y = madd(y, m, 2.0000714765e-1);
  y = madd(y, m, -2.4999993993e-1);
  y = madd(y, m, 3.3333331174e-1);
  y = f32x4.mul(f32x4.mul(y, m), z);
  const ef = f32x4.convert_i32x4_s(e);
  y = f32x4.add(y, f32x4.mul(ef, splat(-2.12194440e-4)));
  y = f32x4.sub(y, f32x4.mul(splat(0.5), z));
  return f32x4.add(f32x4.add(m, y), f32x4.mul(ef, splat(0.693359375)));
}

@inline
export function tanh4(x: v128): v128 {
  const z = f32x4.mul(x, x);
  let p = madd(splat(-5.70498872745e-3), z, 2.06390887954e-2);
  p = madd(p, z, -5.37397155531e-2);
  p = madd(p, z, 1.33314422036e-1);
  p = madd(p, z, -3.33332819422e-1);
  const near = f32x4.add(f32x4.mul(f32x4.mul(p, z), x), x);
  const a = f32x4.abs(x);
  const e = exp4(f32x4.add(a, a));
  const far = f32x4.sub(splat(1), f32x4.div(splat(2), f32x4.add(e, splat(1))));
  const signed = v128.or(far, v128.and(x, i32x4.splat(0x80000000)));
  return v128.bitselect(near, signed, f32x4.lt(a, splat(0.625)));
}

@inline
export function erf4(v: v128): v128 {
  const x = f32x4.max(f32x4.min(v, splat(4)), splat(-4));
  const z = f32x4.mul(x, x);
  let p = madd(splat(-2.72614225801306e-10), z, 2.77068142495902e-8);
  p = madd(p, z, -2.10102402082508e-6);
  p = madd(p, z, -5.69250639462346e-5);
  p = madd(p, z, -7.34990630326855e-4);
  p = madd(p, z, -2.95459980854025e-3);
  p = madd(p, z, -1.60960333262415e-2);
  let q = madd(splat(-1.45660718464996e-5), z, -2.13374055278905e-4);
  q = madd(q, z, -1.68282697438203e-3);
  q = madd(q, z, -7.37332916720468e-3);
  q = madd(q, z, -1.42647390514189e-2);
  return f32x4.div(f32x4.mul(x, p), q);
}

/** Activation by number: 0 gelu (erf), 1 gelu (tanh), 2 relu, 3 silu, 4 tanh. */
@inline
export function act4(kind: i32, x: v128): v128 {
  if (kind == 3) return f32x4.div(x, f32x4.add(splat(1), exp4(f32x4.neg(x))));
  if (kind == 1) {
    const u = f32x4.mul(splat(0.7978845608028654), madd(f32x4.mul(f32x4.mul(x, x), splat(0.044715)), x, 0));
    const t = tanh4(f32x4.add(f32x4.mul(splat(0.7978845608028654), x), u));
    return f32x4.mul(f32x4.mul(splat(0.5), x), f32x4.add(splat(1), t));
  }
  if (kind == 0)
    return f32x4.mul(f32x4.mul(splat(0.5), x), f32x4.add(splat(1), erf4(f32x4.mul(x, splat(0.70710678118654752)))));
  if (kind == 2) return f32x4.max(x, splat(0));
  return tanh4(x);
}

/** The derivative of `act4`. */
@inline
export function slope4(kind: i32, x: v128): v128 {
  const one = splat(1), half = splat(0.5);
  if (kind == 3) {
    const s = f32x4.div(one, f32x4.add(one, exp4(f32x4.neg(x))));
    return f32x4.mul(s, f32x4.add(one, f32x4.mul(x, f32x4.sub(one, s))));
  }
  if (kind == 1) {
    const c = splat(0.7978845608028654), z = f32x4.mul(f32x4.mul(x, x), splat(0.044715));
    const t = tanh4(f32x4.mul(c, f32x4.mul(x, f32x4.add(one, z)))), flat = f32x4.mul(half, f32x4.add(one, t));
    const steep = f32x4.mul(f32x4.mul(half, x), f32x4.mul(f32x4.sub(one, f32x4.mul(t, t)), f32x4.mul(c, f32x4.add(one, f32x4.mul(splat(3), z)))));
    return f32x4.add(flat, steep);
  }
  if (kind == 0) {
    const flat = f32x4.mul(half, f32x4.add(one, erf4(f32x4.mul(x, splat(0.70710678118654752)))));
    return f32x4.add(flat, f32x4.mul(f32x4.mul(x, splat(0.3989422804014327)), exp4(f32x4.mul(f32x4.mul(x, x), splat(-0.5)))));
  }
  if (kind == 2) return v128.and(f32x4.gt(x, splat(0)), one);
  const t = tanh4(x);
  return f32x4.sub(one, f32x4.mul(t, t));
}

@inline
export function sum4(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 2) + (f32x4.extract_lane(v, 1) + f32x4.extract_lane(v, 3));
}
@inline
export function max4(v: v128): f32 {
  return max(max(f32x4.extract_lane(v, 0), f32x4.extract_lane(v, 1)), max(f32x4.extract_lane(v, 2), f32x4.extract_lane(v, 3)));
}

@inline
export function mix4(v: v128): v128 {
  let x = v128.xor(v, i32x4.shr_u(v, 16));
  x = i32x4.mul(x, i32x4.splat(0x85ebca6b));
  x = v128.xor(x, i32x4.shr_u(x, 13));
  x = i32x4.mul(x, i32x4.splat(0xc2b2ae35));
  return v128.xor(x, i32x4.shr_u(x, 16));
}
/** Gumbel noise of four ids; the same steps as gumbel() in reference/gumbel.ts, to the bit. */
@inline
export function gumbel4(key0: i32, key1: i32, ids: v128): v128 {
  const raw = mix4(i32x4.add(mix4(v128.xor(ids, i32x4.splat(key0))), i32x4.splat(key1)));
  const x = v128.or(i32x4.min_u(raw, i32x4.splat(0xffffff00)), i32x4.splat(1));
  const v = f32x4.mul(f32x4.convert_i32x4_u(x), splat(2.3283064365386963e-10));
  const w = f32x4.sub(splat(1), v);
  const one = f32x4.eq(w, splat(1));
  const e = f32x4.mul(f32x4.neg(log4(w)), f32x4.div(v, f32x4.sub(splat(1), w)));
  return f32x4.neg(log4(v128.bitselect(v, e, one)));
}
