import { InputError } from "../../errors.js";
import type { HeadAnswer, HeadQuery, HeadWeights } from "../device.js";
import { beyondFloat32 } from "../reference/fold.js";
import { gumbelKey } from "../reference/gumbel.js";
import { CTL_COUNT, CTL_OPS, CTL_ROWS, OPCODE, quantBytes, SHARD } from "./abi.js";
import type { Arena } from "./arena.js";
import type { WasmMatrix } from "./matrix.js";
import type { Pool } from "./pool.js";
import { f, Records } from "./records.js";
import { Screener } from "./screen.js";

/** Rows of one pass, and bytes that heaps and logits of a pass may take, before rows are answered in parts. */
const ROWS = 256;
const ROOM = 64 << 20;

/** Asks heads: lays a query out in memory, runs the passes, merges what shards and threads found. */
export class HeadRunner {
  private readonly pool: Pool;
  private readonly arena: Arena;
  private readonly vector: (data: Float32Array | undefined) => number;
  private readonly screener: Screener;

  constructor(pool: Pool, arena: Arena, vector: (data: Float32Array | undefined) => number) {
    this.pool = pool;
    this.arena = arena;
    this.vector = vector;
    this.screener = new Screener(pool, arena, vector);
  }

  async ask(
    head: HeadWeights,
    hidden: Float32Array,
    N: number,
    D: number,
    query: HeadQuery,
    signal?: AbortSignal,
  ): Promise<HeadAnswer> {
    const V = head.vocabSize;
    const perRow = query.targets?.perRow ?? 0;
    const answer = blank(N, V, query);
    const counts = { screened: 0, fellBack: 0 };
    const rowBytes =
      (query.topK * 8 + 8) * this.pool.slices + (query.logits ? V * 4 : 0) + perRow * 4 * this.pool.slices;
    const step = Math.max(1, Math.min(ROWS, Math.floor(ROOM / rowBytes)));
    for (let first = 0; first < N; first += step) {
      const rows = Math.min(step, N - first);
      const part = hidden.subarray(first * D, (first + rows) * D);
      const sub = slice(query, first, rows);
      const left = await this.screener.answer(head, part, rows, sub, answer, first, counts, signal);
      if (left) await this.pass(head, part, rows, left, answer, first, signal);
    }
    return { ...answer, ...counts };
  }

  /** One full pass over the vocabulary for at most ROWS rows. */
  private async pass(
    head: HeadWeights,
    hidden: Float32Array,
    N: number,
    query: HeadQuery,
    answer: Blank,
    first: number,
    signal?: AbortSignal,
  ): Promise<void> {
    const matrix = head.matrix as WasmMatrix;
    const { slices, memory } = this.pool;
    const V = head.vocabSize;
    const D = matrix.cols;
    const perRow = query.targets?.perRow ?? 0;
    const shards = Math.ceil(V / SHARD);
    const own: number[] = [];
    const take = (bytes: number, what: string) => {
      const at = this.arena.alloc(bytes, what);
      own.push(at);
      return at;
    };
    try {
      const bias = this.vector(head.bias);
      const stride = Math.ceil(D / 16) * 64;
      const x = take(N * stride, "hidden states");
      const quant = matrix.integer ? take(N * quantBytes(D), "quantised hidden states") : 0;
      const sums = query.logSumExp || query.entropy ? take(N * shards * 24, "sums") : 0;
      const heapBytes = 8 + 8 * query.topK;
      const heaps = query.topK ? take(slices * N * heapBytes, "top-k heaps") : 0;
      const logits = query.logits ? take(N * V * 4, "logits") : 0;
      const ids = perRow ? take(N * perRow * 4, "target ids") : 0;
      const targets = perRow ? take(N * perRow * 4, "target logits") : 0;
      const ranks = perRow && query.rank ? take(slices * N * perRow * 4, "ranks") : 0;
      const keys = query.sample ? take(N * 8, "keys") : 0;
      const bests = query.sample ? take(slices * N * 16, "samples") : 0;
      const flags = take(N * 4, "row flags");
      const list = take(512, "an op list");
      const buffer = memory.buffer;
      for (let n = 0; n < N; n++)
        new Float32Array(buffer, x + n * stride, D).set(hidden.subarray(n * D, (n + 1) * D));
      new Int32Array(buffer, flags, N).fill(0);
      if (heaps) for (let i = 0; i < slices * N; i++) new Int32Array(buffer, heaps + i * heapBytes, 1)[0] = 0;
      if (ids && query.targets) new Int32Array(buffer, ids, N * perRow).set(query.targets.ids);
      if (ranks) new Int32Array(buffer, ranks, slices * N * perRow).fill(0);
      if (query.sample) {
        const view = new Int32Array(buffer, keys, N * 2);
        for (let n = 0; n < N; n++)
          view.set(gumbelKey(query.sample.seed, query.sample.sequences[n], query.sample.steps[n]), n * 2);
        const best = new Float32Array(buffer, bests, slices * N * 4);
        best.fill(-Infinity);
      }
      const records = new Records();
      if (quant) records.push(OPCODE.quant, true, [x, stride, quant, D]);
      const input = quant ? [quant, quantBytes(D)] : [x, stride];
      const shared = [matrix.descriptor, ...input, V, bias, f(head.scale)];
      if (perRow)
        records.push(OPCODE.targets, true, [
          ...shared,
          ids,
          N * perRow,
          perRow,
          targets,
          f(head.softcap ?? 0),
        ]);
      if (sums || heaps || logits || ranks || bests)
        records.push(OPCODE.head, true, [
          ...shared,
          sums,
          query.entropy ? 1 : 0,
          query.topK,
          heaps,
          f(head.softcap ?? 0),
          logits,
          targets,
          ranks ? perRow : 0,
          ranks,
          keys,
          f(query.sample?.temperature ?? 1),
          bests,
          flags,
          0,
          shards,
        ]);
      records.write(memory, list);
      this.pool.word(CTL_OPS, list);
      this.pool.word(CTL_COUNT, records.count);
      this.pool.word(CTL_ROWS, N);
      await this.pool.run(signal);
      const bad = new Int32Array(memory.buffer, flags, N).indexOf(1);
      if (bad >= 0)
        throw new InputError(
          `row ${first + bad}: a logit is NaN or +Infinity; the hidden state, the weights or the bias overflow float32`,
        );
      this.collect(answer, query, {
        first,
        N,
        V,
        perRow,
        shards,
        sums,
        heaps,
        heapBytes,
        logits,
        targets,
        ranks,
        bests,
      });
    } finally {
      for (const at of own) this.arena.release(at);
    }
  }

  private collect(
    answer: Blank,
    query: HeadQuery,
    at: {
      first: number;
      N: number;
      V: number;
      perRow: number;
      shards: number;
      sums: number;
      heaps: number;
      heapBytes: number;
      logits: number;
      targets: number;
      ranks: number;
      bests: number;
    },
  ): void {
    const { buffer } = this.pool.memory;
    const { slices } = this.pool;
    const { first, N, V, perRow } = at;
    if (at.logits) answer.logits?.set(new Float32Array(buffer, at.logits, N * V), first * V);
    if (at.targets)
      answer.targetLogits?.set(new Float32Array(buffer, at.targets, N * perRow), first * perRow);
    if (at.ranks) {
      const counted = new Int32Array(buffer, at.ranks, slices * N * perRow);
      for (let i = 0; i < N * perRow; i++) {
        let rank = 1;
        for (let t = 0; t < slices; t++) rank += counted[t * N * perRow + i];
        if (answer.targetRanks) answer.targetRanks[first * perRow + i] = rank;
      }
    }
    for (let n = 0; n < N; n++) {
      const row = first + n;
      if (at.sums) {
        const sum = mergeSums(new Float64Array(buffer, at.sums + n * at.shards * 24, at.shards * 3));
        if (sum.max === -Infinity)
          throw new InputError(
            `row ${row}: every logit is -Infinity, so there is no distribution; leave at least one token unmasked`,
          );
        if (answer.logSumExp) answer.logSumExp[row] = sum.max + Math.log(sum.s);
        if (answer.entropy) answer.entropy[row] = Math.max(0, Math.log(sum.s) - sum.t / sum.s);
      }
      if (at.heaps) {
        const found: { id: number; logit: number }[] = [];
        for (let t = 0; t < slices; t++) readHeap(buffer, at.heaps + (t * N + n) * at.heapBytes, found);
        putTop(answer, query.topK, row, found);
      }
      if (at.bests) {
        let value = -Infinity;
        let id = -1;
        let logit = 0;
        let unmasked = false;
        for (let t = 0; t < slices; t++) {
          const view = new DataView(buffer, at.bests + (t * N + n) * 16, 16);
          const mine = view.getFloat32(0, true);
          // Slices hold ascending ids: on equal values the earlier one's id is the lower.
          if (mine > value) {
            value = mine;
            id = view.getInt32(4, true);
            logit = view.getFloat32(8, true);
          }
          unmasked ||= view.getInt32(12, true) === 1;
        }
        if (value === Infinity || (id < 0 && unmasked))
          throw beyondFloat32(`row ${row}`, Math.fround(query.sample?.temperature ?? 1));
        if (id < 0) throw new InputError(`row ${row}: every logit is -Infinity, so nothing can be sampled`);
        if (answer.sampleIds) answer.sampleIds[row] = id;
        if (answer.sampleLogits) answer.sampleLogits[row] = logit;
      }
    }
  }
}

/** Arrays of an answer in the making. */
export type Blank = { -readonly [K in keyof Omit<HeadAnswer, "screened" | "fellBack">]: HeadAnswer[K] };

function blank(N: number, V: number, query: HeadQuery): Blank {
  const out: Blank = {};
  if (query.topK) {
    out.topIds = new Int32Array(N * query.topK);
    out.topLogits = new Float32Array(N * query.topK);
  }
  if (query.targets) out.targetLogits = new Float32Array(N * query.targets.perRow);
  if (query.targets && query.rank) out.targetRanks = new Int32Array(N * query.targets.perRow);
  if (query.logSumExp) out.logSumExp = new Float64Array(N);
  if (query.entropy) out.entropy = new Float64Array(N);
  if (query.sample) {
    out.sampleIds = new Int32Array(N);
    out.sampleLogits = new Float32Array(N);
  }
  if (query.logits) out.logits = new Float32Array(N * V);
  return out;
}

function slice(query: HeadQuery, first: number, rows: number): HeadQuery {
  const { targets, sample } = query;
  return {
    ...query,
    targets: targets && {
      ids: targets.ids.subarray(first * targets.perRow, (first + rows) * targets.perRow),
      perRow: targets.perRow,
    },
    sample: sample && {
      ...sample,
      sequences: sample.sequences.subarray(first, first + rows),
      steps: sample.steps.subarray(first, first + rows),
    },
  };
}

/** Shards' (max, Σ e^(x-max), Σ (x-max) e^(x-max)), merged in index order. */
export function mergeSums(parts: Float64Array): { max: number; s: number; t: number } {
  let max = -Infinity;
  let s = 0;
  let t = 0;
  for (let i = 0; i < parts.length; i += 3) {
    const m = parts[i];
    if (m === -Infinity) continue;
    const top = Math.max(max, m);
    // Moving the maximum by d multiplies s by e^d and t = Σ (x - max) e^(x - max) by e^d, plus d·s.
    const a = max === -Infinity ? 0 : Math.exp(max - top);
    const b = Math.exp(m - top);
    const shiftA = max === -Infinity || a === 0 ? 0 : a * (t + (max - top) * s);
    const shiftB = b === 0 ? 0 : b * (parts[i + 2] + (m - top) * parts[i + 1]);
    s = s * a + parts[i + 1] * b;
    t = shiftA + shiftB;
    max = top;
  }
  return { max, s, t };
}

/** Entries of a heap record, in no order. */
export function readHeap(buffer: ArrayBufferLike, at: number, out: { id: number; logit: number }[]): void {
  const view = new DataView(buffer);
  const size = view.getInt32(at, true);
  for (let i = 0; i < size; i++)
    out.push({ logit: view.getFloat32(at + 8 + i * 8, true), id: view.getInt32(at + 12 + i * 8, true) });
}

/** Writes the k best of what was found: largest logit first, equal logits by lower id. */
export function putTop(answer: Blank, k: number, row: number, found: { id: number; logit: number }[]): void {
  found.sort((a, b) => (a.logit === b.logit ? a.id - b.id : b.logit - a.logit));
  for (let i = 0; i < k; i++) {
    if (answer.topIds) answer.topIds[row * k + i] = found[i].id;
    if (answer.topLogits) answer.topLogits[row * k + i] = found[i].logit;
  }
}
