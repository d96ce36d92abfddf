/**
 * Logits processors as Hugging Face transformers defines them (generation/logits_process.py, 5.23): each changes a row
 * of logits in place; -Infinity marks a removed token. Arithmetic is float32 where theirs is, sums are float64.
 */

/**
 * Each id's logit once: divided by the penalty when it is 0 or more, multiplied when negative.
 * (RepetitionPenaltyLogitsProcessor; Keskar et al. 2019.)
 * @param ids prompt and output so far; ids outside the row are an error of the caller
 */
export function penalizeRepetition(logits: Float32Array, ids: Iterable<number>, penalty: number): void {
  for (const id of new Set(ids)) logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
}

/** Removes these ids; those outside the row are passed over (SuppressTokensLogitsProcessor). */
export function suppress(logits: Float32Array, ids: Iterable<number>): void {
  for (const id of ids) if (id < logits.length) logits[id] = -Infinity;
}

/** z / T (TemperatureLogitsWarper). */
export function applyTemperature(logits: Float32Array, temperature: number): void {
  if (temperature === 1) return;
  const t = Math.fround(temperature);
  for (let i = 0; i < logits.length; i++) logits[i] /= t;
}

/** Removes what is smaller than the k-th largest logit: tokens equal to it all stay (TopKLogitsWarper). */
export function filterTopK(logits: Float32Array, k: number): void {
  if (k >= logits.length) return;
  const floor = logits.slice().sort()[logits.length - k];
  for (let i = 0; i < logits.length; i++) if (logits[i] < floor) logits[i] = -Infinity;
}

/**
 * Keeps the smallest set of tokens, in falling probability, whose mass reaches p; at least one; equal logits: the lower
 * id first. (TopPLogitsWarper; Holtzman et al. 2019. HF sorts ties in no promised order.)
 */
export function filterTopP(logits: Float32Array, p: number): void {
  if (p >= 1) return;
  const kept = nucleus(softmax(logits), p);
  for (let i = 0, next = 0; i < logits.length; i++) {
    if (i === kept[next]) next++;
    else logits[i] = -Infinity;
  }
}

/**
 * How much of p counts as reaching it, less than float32 logits can tell: where a mass is p exactly on paper, their
 * rounding must not let one token more in.
 */
const REACH = 1 - 2 ** -22;

/** Indices, rising, of the smallest set of falling probability whose mass reaches p (mass before a kept one < p). */
export function nucleus(probs: ArrayLike<number>, p: number): number[] {
  const { least, ties } = edge(falling(probs, p * REACH), p * REACH);
  const kept: number[] = [];
  for (let i = 0, left = ties; i < probs.length; i++)
    if (probs[i] > least || (probs[i] === least && left-- > 0)) kept.push(i);
  return kept;
}

/** Probabilities, largest first: as many of the largest as have the mass, or all. A nucleus is mostly far from all. */
function falling(probs: ArrayLike<number>, mass: number): Float64Array {
  let top = 0;
  for (let i = 0; i < probs.length; i++) top = Math.max(top, probs[i]);
  for (let floor = top / 16; ; floor = floor < top * 1e-12 ? 0 : floor / 16) {
    const some: number[] = [];
    let sum = 0;
    for (let i = 0; i < probs.length; i++)
      if (probs[i] >= floor) {
        some.push(probs[i]);
        sum += probs[i];
      }
    // A sum in another order may round otherwise, by far less than this.
    if (floor === 0 || sum >= mass * (1 + 1e-9)) return Float64Array.from(some).sort().reverse();
  }
}

/** The smallest probability that is kept, and how many of those equal to it. */
function edge(sorted: Float64Array, mass: number): { least: number; ties: number } {
  let sum = 0;
  let least = Infinity;
  let ties = 0;
  for (const prob of sorted) {
    if (ties > 0 && sum >= mass) break;
    ties = prob === least ? ties + 1 : 1;
    least = prob;
    sum += prob;
  }
  return { least, ties };
}

/** Removes tokens less likely than `minP` times the likeliest (MinPLogitsWarper; Nguyen et al. 2024). */
export function filterMinP(logits: Float32Array, minP: number): void {
  if (minP <= 0) return;
  const top = largest(logits);
  for (let i = 0; i < logits.length; i++) if (Math.exp(logits[i] - top) < minP) logits[i] = -Infinity;
}

/** exp(z) / Σ exp(z), float64; every logit -Infinity gives zeros. */
export function softmax(logits: Float32Array): Float64Array {
  const top = largest(logits);
  const out = new Float64Array(logits.length);
  if (top === -Infinity) return out;
  let sum = 0;
  for (let i = 0; i < out.length; i++) {
    out[i] = Math.exp(logits[i] - top);
    sum += out[i];
  }
  for (let i = 0; i < out.length; i++) out[i] /= sum;
  return out;
}

function largest(logits: Float32Array): number {
  let top = -Infinity;
  for (const x of logits) if (x > top) top = x;
  return top;
}
