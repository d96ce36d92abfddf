import type { AttentionOp } from "../op.js";
import { dot } from "./matmul.js";
import { type Numbers, stored, zerosLike } from "./numbers.js";

/** What attention needs to know; see `AttentionOp` in op.ts. */
export type AttentionSpec = Pick<
  AttentionOp,
  "heads" | "kvHeads" | "headDim" | "scale" | "softcap" | "window"
>;

/**
 * Causal attention of n new positions of one sequence over all T: row i stands at position `first` + i and sees keys j
 * with position - window < j <= position.
 * out[i, h] = Σ_j softmax_j(softcap(scale · q[i, h]·k[j, g])) · v[j, g]; query head h reads key head g = floor(h·Hkv/H).
 * @param q [n, H·d]
 * @param k [T, Hkv·d], T >= first + n
 * @param v [T, Hkv·d]
 * @param first position of q's first row
 * @returns [n, H·d]
 */
export function attentionForward<T extends Numbers>(spec: AttentionSpec, q: T, k: T, v: T, first: number): T {
  const { heads, headDim: d } = spec;
  const out = zerosLike(q);
  for (let at = 0; at < q.length; at += d) {
    const head = at / d;
    out.set(attendHead(spec, q, at, k, v, head % heads, first + Math.floor(head / heads)), at);
  }
  return out;
}

/**
 * Attention of one query head of one row.
 * @param at where the head's query begins in `q`
 * @param h the head
 * @param position the row's position
 * @returns [d], before it is rounded to the precision of `q`
 */
export function attendHead(
  spec: AttentionSpec,
  q: Numbers,
  at: number,
  k: Numbers,
  v: Numbers,
  h: number,
  position: number,
): Float64Array {
  const { start, p } = look(spec, q, at, k, h, position);
  const out = new Float64Array(spec.headDim);
  for (let t = 0; t < p.length; t++) {
    const value = keyAt(spec, start + t, h);
    for (let c = 0; c < out.length; c++) out[c] += p[t] * v[value + c];
  }
  return out;
}

/**
 * Gradients of queries, keys and values, given that of the output. For one row and head, with p the probabilities:
 * dp[j] = dOut·v[j]; ds[j] = p[j] · (dp[j] - Σ p·dp), times 1 - (s/c)² through the cap; then dq = scale · Σ ds[j] · k[j],
 * dk[j] += scale · ds[j] · q, dv[j] += p[j] · dOut.
 * @param dOut [n, H·d]
 * @returns dq [n, H·d], dk and dv [T, Hkv·d]; zeros for keys that no row sees
 */
export function attentionBackward<T extends Numbers>(
  spec: AttentionSpec,
  q: T,
  k: T,
  v: T,
  first: number,
  dOut: T,
): { dq: T; dk: T; dv: T } {
  const { heads, headDim: d, scale } = spec;
  const rows = q.length / (heads * d);
  // Keys gather over many rows: float64 until the end.
  const dq = new Float64Array(q.length);
  const dk = new Float64Array(k.length);
  const dv = new Float64Array(v.length);
  for (let i = 0; i < rows; i++)
    for (let h = 0; h < heads; h++) {
      const at = (i * heads + h) * d;
      const { start, p, slope } = look(spec, q, at, k, h, first + i);
      const dp = Float64Array.from(p, (_, t) => dot(dOut, at, v, keyAt(spec, start + t, h), d));
      const mean = dot(p, 0, dp, 0, p.length);
      for (let t = 0; t < p.length; t++) {
        const key = keyAt(spec, start + t, h);
        const ds = scale * slope[t] * p[t] * (dp[t] - mean);
        for (let c = 0; c < d; c++) {
          dq[at + c] += ds * k[key + c];
          dk[key + c] += ds * q[at + c];
          dv[key + c] += p[t] * dOut[at + c];
        }
      }
    }
  return { dq: stored(q, dq), dk: stored(k, dk), dv: stored(v, dv) };
}

/**
 * What one query sees: the first visible key's position `start`, the probabilities `p` of the keys from there to its
 * own position, and the `slope` of the cap at each score (1 without one).
 */
function look(
  spec: AttentionSpec,
  q: Numbers,
  at: number,
  k: Numbers,
  h: number,
  position: number,
): { start: number; p: Float64Array; slope: Float64Array } {
  const { headDim, scale, softcap, window } = spec;
  const start = window === undefined ? 0 : Math.max(0, position - window + 1);
  const p = new Float64Array(position - start + 1);
  const slope = new Float64Array(p.length).fill(1);
  let max = -Infinity;
  for (let t = 0; t < p.length; t++) {
    let score = scale * dot(q, at, k, keyAt(spec, start + t, h), headDim);
    if (softcap !== undefined) {
      const bent = Math.tanh(score / softcap);
      score = softcap * bent;
      slope[t] = 1 - bent * bent;
    }
    p[t] = score;
    max = Math.max(max, score);
  }
  let sum = 0;
  for (let t = 0; t < p.length; t++) {
    p[t] = Math.exp(p[t] - max);
    sum += p[t];
  }
  for (let t = 0; t < p.length; t++) p[t] /= sum;
  return { start, p, slope };
}

/** Where the key (or value) of position j that query head h reads begins. */
function keyAt({ heads, kvHeads, headDim }: AttentionSpec, j: number, h: number): number {
  return (j * kvHeads + Math.floor((h * kvHeads) / heads)) * headDim;
}
