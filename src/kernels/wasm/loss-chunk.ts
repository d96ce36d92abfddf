import type { HeadWeights } from "../device.js";
import { FILTER_IDS, type LossQuery } from "../loss.js";
import { quantBytes, SHARD } from "./abi.js";
import { padded } from "./body.js";
import type { WasmMatrix } from "./matrix.js";

/** Rows of a chunk, at most, and bytes that its logits may take. */
const ROWS = 256;
const ROOM = 64 << 20;
/** Floats that a row's gradient needs; see `lossGradient` in assembly/loss.ts. */
export const NUMBERS = 8;

/** Where a chunk's parts stand in memory (0: not needed), and what is asked of it. */
export interface Chunk {
  readonly head: HeadWeights;
  readonly query: LossQuery;
  readonly V: number;
  readonly shards: number;
  /** The gradient filter's blocks of a row. */
  readonly blocks: number;
  readonly logitBytes: number;
  readonly x: number;
  /** Hidden states as integer weights meet them. */
  readonly quant: number;
  readonly logits: number;
  readonly sums: number;
  readonly flags: number;
  readonly weighted: number;
  readonly weights: number;
  readonly ids: number;
  readonly coefficients: number;
  readonly targets: number;
  readonly numbers: number;
  readonly teacherX: number;
  readonly teacherLogits: number;
  readonly teacherDots: number;
  readonly turned: number;
  readonly turnedBytes: number;
  readonly dHidden: number;
  readonly bias: number;
  /** [rows][blocks] u8: 1 for each block that the gradient filter keeps; and how many of each row. */
  readonly kept: number;
  readonly keptCounts: number;
  readonly list: number;
  readonly places: Places;
}

/** Where all rows of an array stand in the device's memory, ready for the kernels; 0: elsewhere, and a chunk is copied. */
export interface Places {
  readonly hidden: number;
  readonly teacherHidden: number;
  readonly dHidden: number;
}

const logitBytesOf = (V: number) => padded(V) * 4 + 64;

/** How many of N rows a chunk takes. */
export function chunkRows(N: number, V: number): number {
  return Math.min(N, ROWS, Math.max(2, Math.floor(ROOM / logitBytesOf(V))));
}

/** Takes memory for a chunk's parts. @param take gives the address of so many bytes */
export function layOut(
  head: HeadWeights,
  query: LossQuery,
  rows: number,
  places: Places,
  take: (bytes: number, what: string) => number,
): Chunk {
  const V = head.vocabSize;
  const D = head.matrix.cols;
  const logitBytes = logitBytesOf(V);
  const { bias, filter } = query.gradients;
  const teacherD = query.teacher?.head.matrix.cols ?? 0;
  const shards = Math.ceil(V / SHARD);
  const blocks = Math.ceil(V / FILTER_IDS);
  const quantised = Math.max(
    ...[head.matrix, query.teacher?.head.matrix].map((m) =>
      m && (m as WasmMatrix).integer ? quantBytes(m.cols) : 0,
    ),
  );
  return {
    head,
    query,
    V,
    shards,
    blocks,
    logitBytes,
    x: places.hidden || take(rows * padded(D) * 4, "hidden states"),
    quant: take(rows * quantised, "quantised hidden states"),
    logits: take(rows * logitBytes, "the logits of a chunk"),
    sums: take(rows * shards * 24, "sums"),
    flags: take(rows * 4, "row flags"),
    weighted: query.uniform ? take(rows * 8, "weighted logits") : 0,
    weights: query.uniform ? take(padded(V) * 4, "class weights") : 0,
    ids: take(rows * query.perRow * 4, "ids"),
    coefficients: take(rows * query.perRow * 4, "coefficients"),
    targets: take(rows * query.perRow * 4, "target logits"),
    numbers: take(rows * NUMBERS * 4, "rows' numbers"),
    teacherX: query.teacher
      ? places.teacherHidden || take(rows * padded(teacherD) * 4, "the teacher's hidden states")
      : 0,
    teacherLogits: query.teacher ? take(rows * logitBytes, "the teacher's logits") : 0,
    teacherDots: query.teacher ? take(rows * 8, "the teacher's dots") : 0,
    turned:
      query.gradients.weight && !filter
        ? take(padded(D) * (padded(rows) + 16) * 4, "turned hidden states")
        : 0,
    turnedBytes: (padded(rows) + 16) * 4,
    dHidden: query.gradients.hidden ? places.dHidden || take(padded(D) * rows * 4, "a hidden gradient") : 0,
    bias: bias ? take(padded(V) * 4, "a bias gradient") : 0,
    kept: filter ? take(rows * blocks, "kept blocks") : 0,
    keptCounts: filter ? take(rows * 4, "counts of kept blocks") : 0,
    list: take(128 * 8, "an op list"),
    places,
  };
}

/** The chunk as it meets rows from `first` on: those of arrays in the device's memory are used where they stand. */
export function chunkFrom(chunk: Chunk, first: number): Chunk {
  const { places, head, query } = chunk;
  const bytes = head.matrix.cols * 4;
  const teacherBytes = (query.teacher?.head.matrix.cols ?? 0) * 4;
  return {
    ...chunk,
    ...(places.hidden && { x: places.hidden + first * bytes }),
    ...(places.teacherHidden && { teacherX: places.teacherHidden + first * teacherBytes }),
    ...(places.dHidden && { dHidden: places.dHidden + first * bytes }),
  };
}
