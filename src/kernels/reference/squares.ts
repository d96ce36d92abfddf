/** Numbers of one partial sum: a thread takes whole chunks. Part of the contract, as the lanes are: they decide bits. */
export const CHUNK = 4096;

/**
 * Σ x² in float64, where the square of a float32 is exact. The order is one that two SIMD registers of two float64 and
 * any number of threads can follow: within a chunk of 4096, four sums over the indices 0, 1, 2 and 3 modulo 4, joined as
 * (s0 + s2) + (s1 + s3); chunks are added in index order.
 */
export function sumOfSquares(values: Float32Array): number {
  let sum = 0;
  for (let at = 0; at < values.length; at += CHUNK) sum += chunkSum(values.subarray(at, at + CHUNK));
  return sum;
}

function chunkSum(chunk: Float32Array): number {
  const sums = [0, 0, 0, 0];
  for (let i = 0; i < chunk.length; i++) sums[i % 4] += chunk[i] * chunk[i];
  return sums[0] + sums[2] + (sums[1] + sums[3]);
}
