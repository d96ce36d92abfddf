import { type Numbers, zerosLike } from "./numbers.js";

/** a + b, element by element. */
export function addForward<T extends Numbers>(a: T, b: T): T {
  const out = zerosLike(a);
  for (let i = 0; i < a.length; i++) out[i] = a[i] + b[i];
  return out;
}

/** A sum hands its gradient to both: da = db = dOut (copies, so that either may be added to). */
export function addBackward<T extends Numbers>(dOut: T): { da: T; db: T } {
  return { da: copyForward(dOut), db: copyForward(dOut) };
}

/** x · by. */
export function scaleForward<T extends Numbers>(x: T, by: number): T {
  const out = zerosLike(x);
  for (let i = 0; i < x.length; i++) out[i] = x[i] * by;
  return out;
}

/** dx = dOut · by. */
export function scaleBackward<T extends Numbers>(dOut: T, by: number): T {
  return scaleForward(dOut, by);
}

/** The same numbers in an array of their own. */
export function copyForward<T extends Numbers>(x: T): T {
  const out = zerosLike(x);
  out.set(x);
  return out;
}

/** dx = dOut. */
export function copyBackward<T extends Numbers>(dOut: T): T {
  return copyForward(dOut);
}
