/**
 * Gumbel noise as a function of a counter: (seed, sequence, step) make a key, and key and id make the noise.
 * The WebAssembly kernel does the same float32 operations in the same order, so the two agree to the bit; that is
 * why every step here is rounded by `Math.fround`.
 */

const f = Math.fround;

/** MurmurHash3's 32-bit finaliser (Appleby): every input bit changes every output bit with probability near ½. */
export function mix32(x: number): number {
  x ^= x >>> 16;
  x = Math.imul(x, 0x85ebca6b);
  x ^= x >>> 13;
  x = Math.imul(x, 0xc2b2ae35);
  x ^= x >>> 16;
  return x | 0;
}

/**
 * The key of one row's noise.
 * @param seed a whole number in [0, 2^53)
 */
export function gumbelKey(seed: number, sequence: number, step: number): [number, number] {
  const low = seed | 0;
  const high = Math.floor(seed / 2 ** 32) | 0;
  const a = mix32(mix32(mix32(low ^ 0x9e3779b9) + high) + sequence);
  const b = mix32(mix32(a ^ 0x7f4a7c15) + step);
  return [mix32(a + b), b];
}

// Cephes logf: log(1 + x) for x in [√½ - 1, √2 - 1] as x - x²/2 + x³·P(x).
const P = [
  7.0376836292e-2, -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
  2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
].map(f);
const LN2_HIGH = f(0.693359375);
const LN2_LOW = f(-2.1219444e-4);
const SQRT_HALF = f(Math.SQRT1_2);

const bits = new Int32Array(1);
const float = new Float32Array(bits.buffer);

/** Natural logarithm of a positive normal float32, in float32 arithmetic (error about 1 ulp). */
export function log32(x: number): number {
  float[0] = x;
  let e = (bits[0] >> 23) - 126;
  bits[0] = (bits[0] & 0x007fffff) | 0x3f000000;
  let m = float[0]; // in [½, 1)
  if (m < SQRT_HALF) {
    e -= 1;
    m = f(f(m + m) - 1);
  } else m = f(m - 1);
  const z = f(m * m);
  let y = P[0];
  for (let i = 1; i < P.length; i++) y = f(f(y * m) + P[i]);
  y = f(f(y * m) * z);
  y = f(y + f(e * LN2_LOW));
  y = f(y - f(f(0.5) * z));
  return f(f(m + y) + f(e * LN2_HIGH));
}

/** Standard Gumbel noise -log(-log(1 - v)), v uniform on (0, 1) with fine steps near 0, where the winners are. */
export function gumbel(key: readonly [number, number], id: number): number {
  const x = mix32(mix32(id ^ key[0]) + key[1]);
  // 0xffffff00 keeps v below 1 after rounding; |1 keeps it above 0.
  const raw = x >>> 0;
  const v = f(f((Math.min(raw, 0xffffff00) | 1) >>> 0) * f(2 ** -32));
  const w = f(1 - v);
  // log1p by Kahan's correction: log(w)·v/(1 - w) undoes the rounding of 1 - v.
  const e = w === 1 ? v : f(f(-log32(w)) * f(v / f(1 - w)));
  return f(-log32(e));
}
