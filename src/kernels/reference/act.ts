import type { Activation } from "../op.js";
import { type Numbers, zerosLike } from "./numbers.js";

/** out = act(x), element by element. */
export function actForward<T extends Numbers>(kind: Activation, x: T): T {
  const out = zerosLike(x);
  const { value } = ACTIVATIONS[kind];
  for (let i = 0; i < x.length; i++) out[i] = value(x[i]);
  return out;
}

/** dx = dOut · act'(x). `relu`'s slope at 0 is 0. */
export function actBackward<T extends Numbers>(kind: Activation, x: T, dOut: T): T {
  const dx = zerosLike(x);
  const { slope } = ACTIVATIONS[kind];
  for (let i = 0; i < x.length; i++) dx[i] = dOut[i] * slope(x[i]);
  return dx;
}

/** out = act(gate) · up, element by element; the activation is rounded before the product, as a kernel would store it. */
export function gateForward<T extends Numbers>(kind: Activation, gate: T, up: T): T {
  const out = actForward(kind, gate);
  for (let i = 0; i < out.length; i++) out[i] *= up[i];
  return out;
}

/** Gradients of gate and up: dOut · up · act'(gate) and dOut · act(gate). */
export function gateBackward<T extends Numbers>(
  kind: Activation,
  gate: T,
  up: T,
  dOut: T,
): { dGate: T; dUp: T } {
  const { value, slope } = ACTIVATIONS[kind];
  const dGate = zerosLike(gate);
  const dUp = zerosLike(up);
  for (let i = 0; i < dOut.length; i++) {
    dGate[i] = dOut[i] * up[i] * slope(gate[i]);
    dUp[i] = dOut[i] * value(gate[i]);
  }
  return { dGate, dUp };
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

const TANH_GELU = Math.sqrt(2 / Math.PI);
const tanhGelu = (x: number): number => Math.tanh(TANH_GELU * (x + 0.044715 * x ** 3));

/** Each activation and its derivative. */
const ACTIVATIONS: Record<Activation, { value(x: number): number; slope(x: number): number }> = {
  relu: { value: (x) => Math.max(x, 0), slope: (x) => (x > 0 ? 1 : 0) },
  tanh: { value: Math.tanh, slope: (x) => 1 - Math.tanh(x) ** 2 },
  silu: {
    value: (x) => x * sigmoid(x),
    slope: (x) => sigmoid(x) * (1 + x * sigmoid(-x)),
  },
  geluTanh: {
    value: (x) => 0.5 * x * (1 + tanhGelu(x)),
    slope: (x) => {
      const t = tanhGelu(x);
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * TANH_GELU * (1 + 3 * 0.044715 * x * x);
    },
  },
  geluErf: {
    value: (x) => 0.5 * x * erfc(-x / Math.SQRT2),
    slope: (x) => 0.5 * erfc(-x / Math.SQRT2) + (x * Math.exp(-0.5 * x * x)) / Math.sqrt(2 * Math.PI),
  },
};

/**
 * The complementary error function to about 1e-12, relative: 1 - erf by its series where |x| < 2, else by Laplace's
 * continued fraction, evaluated from its far end (Abramowitz & Stegun 7.1.5 and 7.1.14).
 */
export function erfc(x: number): number {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = x;
  for (let n = 100; n >= 1; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction;
}
