import type { StoredType } from "../format.js";

/** The numbers that host and kernels share; assembly/abi.ts holds the same. Word = 32 bits. */
export const CTL = 1024;
export const CTL_GENERATION = 0;
export const CTL_ABORT = 192;
export const CTL_THREADS = 256;
export const CTL_OPS = 260;
export const CTL_COUNT = 264;
export const CTL_ROWS = 268;
export const CTL_SEGMENTS = 272;
export const CTL_POSITIONS = 280;
export const CTL_SCRATCH = 284;
export const CTL_SCRATCH_SIZE = 288;
export const CTL_FAULT = 292;
export const CTL_FAULT_AT = 296;

/** First byte that the allocator may give out: control block and the module's data lie below. */
export const ARENA_START = 16384;

export const RECORD_WORDS = 32;
export const OPCODE = {
  embed: 1,
  positions: 2,
  norm: 3,
  quant: 4,
  matmul: 5,
  rope: 6,
  store: 7,
  attention: 8,
  act: 9,
  gate: 10,
  add: 11,
  scale: 12,
  copy: 13,
  pack: 14,
  targets: 15,
  head: 16,
  screenBuild: 17,
  screen: 18,
  rescore: 19,
  lossLogits: 20,
  lossFold: 21,
  lossGradient: 22,
  transpose: 23,
  weightGradient: 24,
  inputGradient: 25,
  normMoments: 26,
  normVectors: 27,
  normInput: 28,
  actGradient: 29,
  scatter: 30,
  clear: 31,
  attentionGradient: 32,
  adamw: 33,
  squares: 34,
  sgd: 35,
  lion: 36,
  muonMomentum: 37,
  muonSquares: 38,
  muonScale: 39,
  muonGram: 40,
  muonApply: 41,
  muonStep: 42,
  filteredWeightGradient: 43,
  filteredInputGradient: 44,
  dropout: 45,
} as const;

export const ACTIVATION = { geluErf: 0, geluTanh: 1, relu: 2, silu: 3, tanh: 4 } as const;

/** Panel formats: how each stored type is held, without loss. Bytes are those of one group of one panel of 16 rows. */
interface PanelFormat {
  readonly code: number;
  readonly stored: number;
  readonly group: number;
  readonly bytes: number;
  /** Integer formats take activations quantised to int16. */
  readonly integer: boolean;
}
export const PANELS: Record<StoredType, PanelFormat> = {
  f32: { code: 0, stored: 0, group: 1, bytes: 64, integer: false },
  f16: { code: 1, stored: 1, group: 1, bytes: 32, integer: false },
  bf16: { code: 2, stored: 2, group: 1, bytes: 32, integer: false },
  Q8_0: { code: 3, stored: 3, group: 32, bytes: 576, integer: true },
  Q4_0: { code: 6, stored: 4, group: 32, bytes: 320, integer: true },
  Q4_1: { code: 7, stored: 5, group: 32, bytes: 384, integer: true },
  Q5_0: { code: 3, stored: 6, group: 32, bytes: 576, integer: true },
  Q5_1: { code: 4, stored: 7, group: 32, bytes: 640, integer: true },
  Q4_K: { code: 7, stored: 8, group: 32, bytes: 384, integer: true },
  Q5_K: { code: 4, stored: 9, group: 32, bytes: 640, integer: true },
  Q6_K: { code: 5, stored: 10, group: 16, bytes: 320, integer: true },
};

/** Bytes of a panel of 16 rows of `cols` weights. */
export function panelBytes(type: StoredType, cols: number): number {
  const { group, bytes } = PANELS[type];
  return (cols / group) * bytes;
}

/** Bytes a matrix takes on the device; the head's screen is not counted. */
export function matrixBytes(type: StoredType, rows: number, cols: number): number {
  return Math.ceil(rows / 16) * panelBytes(type, cols);
}

/** Bytes of one quantised row: for each block of 32, 80 (int16 [32], scale, sum, zero point, flag) and 80 for what rounding left. */
export function quantBytes(cols: number): number {
  return (cols >> 5) * 160;
}

/** Cache geometry: positions a block, and bytes of one key head in a block. */
export const BLOCK = 32;
export function headBytes(headDim: number): number {
  return headDim * 128 + Math.ceil(headDim / 16) * 2048;
}

/** Rows that the head folds at a time, and vocabulary ids a shard. */
export const SHARD = 1024;
/** A thread's private memory before its attention scores: unpacked weights, partial results, 64 rows of logits. */
export const SCRATCH_BYTES = 65536 + 64 * SHARD * 4;
