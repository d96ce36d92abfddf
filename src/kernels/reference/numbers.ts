/**
 * What the reference ops compute on: float32 in use, float64 in tests, where central differences can then prove a
 * gradient to ten digits. Sums are always float64; what is stored is rounded to the array's own precision.
 */
export type Numbers = Float32Array | Float64Array;

/** `length` zeros of the same precision as `like`. */
export function zerosLike<T extends Numbers>(like: T, length: number = like.length): T {
  return (like instanceof Float64Array ? new Float64Array(length) : new Float32Array(length)) as T;
}

/** Float64 sums, rounded once to the precision of `like`. */
export function stored<T extends Numbers>(like: T, sums: Float64Array): T {
  const out = zerosLike(like, sums.length);
  out.set(sums);
  return out;
}
