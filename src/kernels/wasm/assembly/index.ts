import {
  CTL, CTL_ARRIVED, CTL_COUNT, CTL_GENERATION, CTL_IDLE, CTL_OPS, CTL_PHASE, CTL_POSITIONS, CTL_ROWS, CTL_SEGMENTS, CTL_SLEEPERS, CTL_THREADS,
  MAT_COLS, MAT_DATA, MAT_FORMAT, MAT_PANEL, MAT_ROWS, OP_ACT, OP_ADD, OP_ATTENTION, OP_COPY, OP_EMBED, OP_GATE, OP_HEAD, OP_INPUT_GRADIENT,
  OP_LOSS_FOLD, OP_LOSS_GRADIENT, OP_LOSS_LOGITS, OP_TRANSPOSE, OP_WEIGHT_GRADIENT, OP_FILTERED_INPUT_GRADIENT, OP_FILTERED_WEIGHT_GRADIENT,
  OP_NORM_MOMENTS, OP_NORM_VECTORS, OP_NORM_INPUT, OP_ACT_GRADIENT, OP_SCATTER, OP_CLEAR, OP_ATTENTION_GRADIENT, OP_ADAMW, OP_SQUARES,
  OP_SGD, OP_LION, OP_MUON_MOMENTUM, OP_MUON_SQUARES, OP_MUON_SCALE, OP_MUON_GRAM, OP_MUON_APPLY, OP_MUON_STEP,
  OP_MATMUL, OP_NORM, OP_PACK, OP_POSITIONS, OP_QUANT, OP_RESCORE, OP_ROPE, OP_SCALE, OP_SCREEN, OP_SCREEN_BUILD,
  OP_STORE, OP_TARGETS, OP_DROPOUT, RECORD, aborted, pointer, quantBytes, real, scratchOf, share, word,
} from "./abi";
import { attentionGradient } from "./attention-gradient";
import { actGradient, clear, normInput, normMoments, normVectors, scatter } from "./backward";
import { attendPair, headBytes, storeHead } from "./attention";
import { filteredInputGradient, filteredWeightGradient } from "./filter";
import { dropout } from "./dropout";
import { head, targets } from "./head";
import { lossFold, lossGradient, lossLogits } from "./loss";
import { muonApply, muonGram, muonMomentum, muonScale, muonSquares, muonStep } from "./muon";
import { adamw, lion, sgd, squares } from "./optimize";
import { packPanel } from "./pack";
import { inputGradient, transpose, weightGradient } from "./products";
import { matmul } from "./panels";
import { elementwise, normRow, quantRow, ropeRow } from "./rows";
import { rescore, screen, screenBuild } from "./screen";
import { PIECE, panelAt, widenRow } from "./unpack";

const SPINS: i32 = 20000;

function barrier(nt: i32): void {
  if (nt == 1) return;
  const phase = atomic.load<i32>(CTL + CTL_PHASE);
  if (atomic.add<i32>(CTL + CTL_ARRIVED, 1) == nt - 1) {
    atomic.store<i32>(CTL + CTL_ARRIVED, 0);
    atomic.store<i32>(CTL + CTL_PHASE, phase + 1);
    if (atomic.load<i32>(CTL + CTL_SLEEPERS) > 0) atomic.notify(CTL + CTL_PHASE, nt);
    return;
  }
  sleep(CTL + CTL_PHASE, phase, CTL + CTL_SLEEPERS);
}

/**
 * Returns when the word at `at` is no longer `old`: a spin of some tens of microseconds, then sleep. A sleeper is counted
 * before it looks again, and a waker changes the word before it looks at the count, so no wake-up is lost.
 */
function sleep(at: usize, old: i32, sleepers: usize): void {
  for (let i = 0; i < SPINS; i++) if (atomic.load<i32>(at) != old) return;
  atomic.add<i32>(sleepers, 1);
  while (atomic.load<i32>(at) == old) atomic.wait<i32>(at, old, -1);
  atomic.sub<i32>(sleepers, 1);
}

/** The life of a pool thread: sleep until there is work, do its share, sleep again. Ends with the worker. */
export function pool(tid: i32): void {
  let seen = 0;
  for (;;) {
    sleep(CTL + CTL_GENERATION, seen, CTL + CTL_IDLE);
    seen = atomic.load<i32>(CTL + CTL_GENERATION);
    walk(tid, load<i32>(CTL + CTL_THREADS), 0, load<i32>(CTL + CTL_COUNT));
  }
}

/** Thread 0's part: wakes the pool and walks the list; every thread has passed the last barrier when it returns. */
export function run(): void {
  const nt = load<i32>(CTL + CTL_THREADS);
  if (nt > 1) {
    atomic.add<i32>(CTL + CTL_GENERATION, 1);
    if (atomic.load<i32>(CTL + CTL_IDLE) > 0) atomic.notify(CTL + CTL_GENERATION, nt);
  }
  walk(0, nt, 0, load<i32>(CTL + CTL_COUNT));
}

/** One of `shares` shares of op `i`, for hosts without threads, that must breathe in between: they do one after the other. */
export function slice(i: i32, share: i32, shares: i32): void {
  const op = <usize>load<u32>(CTL + CTL_OPS) + <usize>i * RECORD;
  if (!aborted()) step(op, word(op, 0), share, shares, load<i32>(CTL + CTL_ROWS));
}

function walk(tid: i32, nt: i32, first: i32, last: i32): void {
  const N = load<i32>(CTL + CTL_ROWS), ops = <usize>load<u32>(CTL + CTL_OPS);
  for (let i = first; i < last; i++) {
    const op = ops + <usize>i * RECORD;
    if (!aborted()) step(op, word(op, 0), tid, nt, N);
    if (word(op, 1) || i == last - 1) barrier(nt);
  }
}

function step(op: usize, code: i32, tid: i32, nt: i32, N: i32): void {
  if (code == OP_MATMUL) return product(op, tid, nt, N);
  if (code == OP_ATTENTION) return attention(op, tid, nt);
  if (code >= OP_ACT && code <= OP_COPY) return pointwise(op, code, tid, nt, N);
  if (code == OP_HEAD) return head(op, tid, nt);
  if (code == OP_TARGETS) return targets(op, tid, nt);
  if (code == OP_PACK) return pack(op, tid, nt);
  if (code == OP_SCREEN_BUILD) return screenBuild(op, tid, nt);
  if (code == OP_SCREEN) return screen(op, tid, nt);
  if (code == OP_RESCORE) return rescore(op, tid, nt);
  if (code == OP_LOSS_LOGITS) return lossLogits(op, tid, nt);
  if (code == OP_LOSS_FOLD) return lossFold(op, tid, nt);
  if (code == OP_LOSS_GRADIENT) return lossGradient(op, tid, nt);
  if (code == OP_TRANSPOSE) return transpose(op, tid, nt);
  if (code == OP_WEIGHT_GRADIENT) return weightGradient(op, tid, nt);
  if (code == OP_INPUT_GRADIENT) return inputGradient(op, tid, nt);
  if (code == OP_FILTERED_WEIGHT_GRADIENT) return filteredWeightGradient(op, tid, nt);
  if (code == OP_FILTERED_INPUT_GRADIENT) return filteredInputGradient(op, tid, nt);
  if (code == OP_NORM_MOMENTS) return normMoments(op, tid, nt);
  if (code == OP_NORM_VECTORS) return normVectors(op, tid, nt);
  if (code == OP_NORM_INPUT) return normInput(op, tid, nt);
  if (code == OP_ACT_GRADIENT) return actGradient(op, tid, nt);
  if (code == OP_SCATTER) return scatter(op, tid, nt);
  if (code == OP_CLEAR) return clear(op, tid, nt);
  if (code == OP_ATTENTION_GRADIENT) return attentionGradient(op, tid, nt);
  if (code == OP_ADAMW) return adamw(op, tid, nt);
  if (code == OP_SQUARES) return squares(op, tid, nt);
  if (code == OP_SGD) return sgd(op, tid, nt);
  if (code == OP_LION) return lion(op, tid, nt);
  if (code == OP_MUON_MOMENTUM) return muonMomentum(op, tid, nt);
  if (code == OP_MUON_SQUARES) return muonSquares(op, tid, nt);
  if (code == OP_MUON_SCALE) return muonScale(op, tid, nt);
  if (code == OP_MUON_GRAM) return muonGram(op, tid, nt);
  if (code == OP_MUON_APPLY) return muonApply(op, tid, nt);
  if (code == OP_MUON_STEP) return muonStep(op, tid, nt);
  if (code == OP_DROPOUT) return dropout(op, tid, nt);
  for (let n = share(N, tid, nt); n < share(N, tid + 1, nt); n++) {
    const r = <usize>n;
    if (code == OP_NORM)
      normRow(pointer(op, 2) + r * pointer(op, 3), pointer(op, 4) + r * pointer(op, 5), word(op, 6), word(op, 7), word(op, 8) != 0, real(op, 9), pointer(op, 10), pointer(op, 11), word(op, 12) != 0);
    else if (code == OP_QUANT) quantRow(pointer(op, 2) + r * pointer(op, 3), word(op, 5), pointer(op, 4) + r * quantBytes(word(op, 5)), scratchOf(tid));
    else if (code == OP_ROPE)
      ropeRow(pointer(op, 2) + r * pointer(op, 3), word(op, 4), word(op, 5), word(op, 6), word(op, 7) != 0, pointer(op, 8) + r * (<usize>word(op, 6) << 3));
    else if (code == OP_STORE) storeRow(op, n);
    else embed(op, code == OP_POSITIONS, n, scratchOf(tid));
  }
}

function product(op: usize, tid: i32, nt: i32, N: i32): void {
  const mat = pointer(op, 2), O = word(mat, 2), panels = (O + 15) >> 4;
  matmul(
    word(mat, 0), load<u32>(mat + MAT_DATA), load<u32>(mat + MAT_PANEL), O, word(mat, 3), share(panels, tid, nt), share(panels, tid + 1, nt),
    pointer(op, 3), pointer(op, 4), N, pointer(op, 5), pointer(op, 6), pointer(op, 7), word(op, 8) != 0, scratchOf(tid),
  );
}

/** Columns are split like a product's panels, so that a thread meets the columns it made and no barrier is needed. */
function pointwise(op: usize, code: i32, tid: i32, nt: i32, N: i32): void {
  const panels = word(op, 8), from = <usize>share(panels, tid, nt) << 6, bytes = (<usize>share(panels, tid + 1, nt) << 6) - from;
  for (let n: usize = 0; n < <usize>N; n++) {
    const a = pointer(op, 2) + n * pointer(op, 5) + from, b = pointer(op, 3) + n * pointer(op, 6) + from, o = pointer(op, 4) + n * pointer(op, 7) + from;
    if (code == OP_GATE) {
      if (word(op, 9) == 3) elementwise(1, 3, a, b, o, bytes, 0);
      else elementwise(1, word(op, 9), a, b, o, bytes, 0);
    } else if (code == OP_ACT) elementwise(0, word(op, 9), a, b, o, bytes, 0);
    else if (code == OP_ADD) elementwise(2, 0, a, b, o, bytes, 0);
    else if (code == OP_SCALE) elementwise(3, 0, a, b, o, bytes, real(op, 10));
    else elementwise(4, 0, a, b, o, bytes, 0);
  }
}

function embed(op: usize, add: bool, n: i32, scratch: usize): void {
  const mat = pointer(op, 2), K = word(mat, 3), format = word(mat, 0), scale = real(op, 6);
  const id = load<i32>(pointer(op, 3) + (<usize>n << 2)) + word(op, 8), out = pointer(op, 4) + <usize>n * pointer(op, 5);
  const panel = <usize>load<u32>(mat + MAT_DATA) + <usize>(id >> 4) * <usize>load<u32>(mat + MAT_PANEL);
  for (let first = 0; first < K; first += PIECE) {
    const count = min(PIECE, K - first), to = out + (<usize>first << 2);
    widenRow(format, panelAt(format, panel, first), id & 15, count, add ? scratch : to);
    for (let i: usize = 0; i < <usize>count << 2; i += 4) {
      if (add) store<f32>(to + i, load<f32>(to + i) + load<f32>(scratch + i));
      else if (scale != 1) store<f32>(to + i, load<f32>(to + i) * scale);
    }
  }
}

function storeRow(op: usize, n: i32): void {
  const position = load<i32>(<usize>load<u32>(CTL + CTL_POSITIONS) + (<usize>n << 2));
  const blocks = <usize>load<u32>(<usize>load<u32>(CTL + CTL_SEGMENTS) + (<usize>n << 2));
  const block = <usize>load<u32>(blocks + (<usize>(position >> 5) << 2)) + pointer(op, 7);
  const heads = word(op, 5), d = word(op, 6), row = <usize>n * pointer(op, 4);
  for (let h = 0; h < heads; h++) {
    const at = row + (<usize>(h * d) << 2);
    storeHead(block + <usize>h * headBytes(d), position & 31, d, pointer(op, 2) + at, pointer(op, 3) + at);
  }
}

function attention(op: usize, tid: i32, nt: i32): void {
  const heads = word(op, 6), groups = word(op, 7), d = word(op, 8), tasks = word(op, 14) * heads;
  const positions = <usize>load<u32>(CTL + CTL_POSITIONS), tables = <usize>load<u32>(CTL + CTL_SEGMENTS);
  const scores = scratchOf(tid) + 64;
  for (let t = tid; t < tasks; t += nt) {
    const h = t % heads, pair = pointer(op, 13) + (<usize>(t / heads) << 3);
    const a = <usize>load<i32>(pair), b = <usize>load<i32>(pair, 4), at = <usize>(h * d) << 2;
    attendPair(
      pointer(op, 2) + a * pointer(op, 3) + at, pointer(op, 2) + b * pointer(op, 3) + at,
      pointer(op, 4) + a * pointer(op, 5) + at, pointer(op, 4) + b * pointer(op, 5) + at,
      load<i32>(positions + (a << 2)), load<i32>(positions + (b << 2)), word(op, 12), load<u32>(tables + (a << 2)),
      pointer(op, 9) + <usize>((h * groups) / heads) * headBytes(d), d, real(op, 10), real(op, 11), scores,
    );
  }
}

/** Words: 2 matrix, 3 staged rows, 4 bytes a row, 5 how many, 6 number of the first (a multiple of 16), 7 stored type. */
function pack(op: usize, tid: i32, nt: i32): void {
  const mat = pointer(op, 2), rows = word(op, 5), panels = (rows + 15) >> 4, bytes = <usize>load<u32>(mat + MAT_PANEL);
  for (let p = share(panels, tid, nt); p < share(panels, tid + 1, nt); p++) {
    const r = p << 4, row = word(op, 6) + r;
    packPanel(
      word(op, 7), word(mat, 0), pointer(op, 3) + <usize>r * pointer(op, 4), pointer(op, 4), min(16, rows - r), word(mat, 3),
      <usize>load<u32>(mat + MAT_DATA) + <usize>(row >> 4) * bytes, bytes, row, scratchOf(tid),
    );
  }
}
