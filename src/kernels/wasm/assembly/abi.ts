// What host and kernels share: the control block, op records and matrix descriptors.
// Every value is a 32-bit word; src/kernels/wasm/abi.ts holds the same numbers for the host.

/** Control block: one for all threads, at a fixed address. */
export const CTL: usize = 1024;
export const CTL_GENERATION: usize = 0; // a new value wakes the pool
export const CTL_ARRIVED: usize = 64; // barrier: threads that have arrived
export const CTL_PHASE: usize = 128; // barrier: its phase
export const CTL_ABORT: usize = 192; // not 0: every loop leaves as soon as it sees it
export const CTL_THREADS: usize = 256;
export const CTL_OPS: usize = 260; // address of the op records
export const CTL_COUNT: usize = 264; // how many
export const CTL_ROWS: usize = 268; // N
export const CTL_SEGMENTS: usize = 272; // address of the segment table
export const CTL_SEGMENT_COUNT: usize = 276;
export const CTL_POSITIONS: usize = 280; // address of i32 positions [N]
export const CTL_SCRATCH: usize = 284; // address of the threads' private memory
export const CTL_SCRATCH_SIZE: usize = 288; // bytes a thread
export const CTL_FAULT: usize = 292; // kernels report here: 0, or a fault code
export const CTL_FAULT_AT: usize = 296;
export const CTL_SLEEPERS: usize = 320; // threads that sleep at the barrier; only they need a call to wake them
export const CTL_IDLE: usize = 384; // pool threads that sleep between runs

/** Op record: 32 words. Word 0 is the opcode, word 1 says whether a barrier follows. */
export const RECORD: usize = 128;

export const OP_EMBED: i32 = 1;
export const OP_POSITIONS: i32 = 2;
export const OP_NORM: i32 = 3;
export const OP_QUANT: i32 = 4;
export const OP_MATMUL: i32 = 5;
export const OP_ROPE: i32 = 6;
export const OP_STORE: i32 = 7;
export const OP_ATTENTION: i32 = 8;
export const OP_ACT: i32 = 9;
export const OP_GATE: i32 = 10;
export const OP_ADD: i32 = 11;
export const OP_SCALE: i32 = 12;
export const OP_COPY: i32 = 13;
export const OP_PACK: i32 = 14;
export const OP_TARGETS: i32 = 15;
export const OP_HEAD: i32 = 16;
export const OP_SCREEN_BUILD: i32 = 17;
export const OP_SCREEN: i32 = 18;
export const OP_RESCORE: i32 = 19;
export const OP_LOSS_LOGITS: i32 = 20;
export const OP_LOSS_FOLD: i32 = 21;
export const OP_LOSS_GRADIENT: i32 = 22;
export const OP_TRANSPOSE: i32 = 23;
export const OP_WEIGHT_GRADIENT: i32 = 24;
export const OP_INPUT_GRADIENT: i32 = 25;
export const OP_NORM_MOMENTS: i32 = 26;
export const OP_NORM_VECTORS: i32 = 27;
export const OP_NORM_INPUT: i32 = 28;
export const OP_ACT_GRADIENT: i32 = 29;
export const OP_SCATTER: i32 = 30;
export const OP_CLEAR: i32 = 31;
export const OP_ATTENTION_GRADIENT: i32 = 32;
export const OP_ADAMW: i32 = 33;
export const OP_SQUARES: i32 = 34;
export const OP_SGD: i32 = 35;
export const OP_LION: i32 = 36;
export const OP_MUON_MOMENTUM: i32 = 37;
export const OP_MUON_SQUARES: i32 = 38;
export const OP_MUON_SCALE: i32 = 39;
export const OP_MUON_GRAM: i32 = 40;
export const OP_MUON_APPLY: i32 = 41;
export const OP_MUON_STEP: i32 = 42;
export const OP_FILTERED_WEIGHT_GRADIENT: i32 = 43;
export const OP_FILTERED_INPUT_GRADIENT: i32 = 44;
export const OP_DROPOUT: i32 = 45;

/** Matrix descriptor: 8 words. */
export const MAT_FORMAT: usize = 0;
export const MAT_DATA: usize = 4;
export const MAT_ROWS: usize = 8;
export const MAT_COLS: usize = 12;
export const MAT_PANEL: usize = 16; // bytes of a panel of 16 rows

export const F32: i32 = 0; // [k][16 rows] f32
export const F16: i32 = 1; // [k][16 rows] u16, rows in the order 0 4 1 5 2 6 3 7, 8 12 …
export const BF16: i32 = 2;
export const B8: i32 = 3; // groups of 32: 512 int8 [k/2][16 rows][2], 16 scales
export const B8M: i32 = 4; // the same and 16 minima
export const B8H: i32 = 5; // groups of 16: 256 int8, 16 scales
export const B4Z: i32 = 6; // groups of 32: 256 bytes of nibbles, 16 scales; value s·(q - 8)
export const B4M: i32 = 7; // the same with 16 minima; value s·q + m

export const FAULT_NOT_FINITE: i32 = 1;

@inline
export function word(record: usize, i: i32): i32 {
  return load<i32>(record + (<usize>i << 2));
}
@inline
export function pointer(record: usize, i: i32): usize {
  return <usize>load<u32>(record + (<usize>i << 2));
}
@inline
export function real(record: usize, i: i32): f32 {
  return load<f32>(record + (<usize>i << 2));
}
@inline
export function aborted(): bool {
  return atomic.load<i32>(CTL + CTL_ABORT) != 0;
}
@inline
export function scratchOf(tid: i32): usize {
  return <usize>load<u32>(CTL + CTL_SCRATCH) + <usize>tid * <usize>load<u32>(CTL + CTL_SCRATCH_SIZE);
}
/** First of the items that thread `tid` of `nt` takes when `n` items are split evenly and in order. */
@inline
export function share(n: i32, tid: i32, nt: i32): i32 {
  return <i32>((<i64>n * tid) / nt);
}
/**
 * Quantised activations: a block of 32 is 80 bytes, int16 [32], then its scale (f32), its scaled sum (f32), -8 times its
 * integer sum (i32), and whether what rounding left of it is worth a second product (i32). Behind a row's blocks stand
 * as many for that remainder: int16 and scale, zeros where there is none.
 */
export const QUANT_BLOCK: usize = 80;
export const QUANT_SCALE: usize = 64;
export const QUANT_SUM: usize = 68;
export const QUANT_ZERO: usize = 72;
export const QUANT_REST: usize = 76;
@inline
export function quantBytes(K: i32): usize {
  return quantRest(K) << 1;
}
/** How far behind a row its remainder stands. */
@inline
export function quantRest(K: i32): usize {
  return <usize>(K >> 5) * QUANT_BLOCK;
}
