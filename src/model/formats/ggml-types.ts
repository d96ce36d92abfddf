import type { StoredType } from "../../kernels/format.js";

/** ggml's numbers of stored types (ggml.h). */
export const GGML_TYPES: Readonly<Record<StoredType, number>> = {
  f32: 0,
  f16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q8_0: 8,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  bf16: 30,
};
