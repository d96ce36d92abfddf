import { log32, mix32 } from "../../kernels/reference/gumbel.js";

/**
 * Normal numbers as a function of (seed, name, index) and of nothing else: a tensor's numbers depend neither on other
 * tensors nor on its own length.
 *
 * Every step is integer arithmetic, + − × ÷, a square root (rounded correctly by every engine, as IEEE 754 asks) or
 * `log32`, which is made of these; Math.log and Math.cos may differ between engines in the last bit. So a seed means
 * the same bits everywhere.
 */

/** A key of 64 bits. Two lanes, because names that meet in one of 32 bits would give two tensors the same numbers. */
function keyOf(seed: number, name: string): [number, number] {
  let a = 0x3c6ef372;
  let b = 0x1b873593;
  const fold = (word: number) => {
    a = mix32((mix32(a ^ 0x9e3779b9) + word) | 0);
    b = mix32((mix32(b ^ 0x7f4a7c15) + word) | 0);
  };
  fold(seed | 0);
  fold(Math.floor(seed / 2 ** 32));
  for (let i = 0; i < name.length; i++) fold(name.charCodeAt(i));
  return [a, b];
}

/**
 * The number below which a standard normal lies with probability p. Wichura, "Algorithm AS 241: The percentage points
 * of the normal distribution", Applied Statistics 37 (1988), PPND7: a relative error of about 1e-7. Its third range,
 * for p nearer to 0 or 1 than e^-25 = 1.4e-11, is left out.
 * @param p in [e^-25, 1 - e^-25]
 */
export function normalQuantile(p: number): number {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return (
      (q * (((59.10937472 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179)) /
      (((67.1875636 * r + 78.757757664) * r + 17.895169469) * r + 1)
    );
  }
  const r = Math.sqrt(-log32(Math.fround(q < 0 ? p : 1 - p))) - 1.6;
  const z =
    (((0.17023821103 * r + 1.3067284816) * r + 2.75681539) * r + 1.4234372777) /
    ((0.12021132975 * r + 0.7370016425) * r + 1);
  return q < 0 ? -z : z;
}

/**
 * `count` draws from N(0, std²), each from 32 bits of its own: magnitudes reach 6.3 std.
 * @param seed a whole number in [0, 2^53)
 * @param name the tensor's
 * @param count at most 2^32
 */
export function normals(seed: number, name: string, count: number, std: number): Float32Array {
  const [a, b] = keyOf(seed, name);
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const draw = mix32((mix32(i ^ a) + b) | 0) >>> 0;
    out[i] = std * normalQuantile((draw + 0.5) / 2 ** 32);
  }
  return out;
}
