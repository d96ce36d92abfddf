import { InputError } from "../../errors.js";
import type { HeadQuery, HeadWeights } from "../device.js";
import { gumbel, gumbelKey } from "../reference/gumbel.js";
import { CTL_COUNT, CTL_OPS, CTL_ROWS, OPCODE, SCRATCH_BYTES } from "./abi.js";
import type { Arena } from "./arena.js";
import { type Blank, putTop, readHeap } from "./head.js";
import type { Screen, WasmMatrix } from "./matrix.js";
import type { Pool } from "./pool.js";
import { f, Records } from "./records.js";

/** Below this many ids the full pass is as fast. */
const SMALLEST = 2048;
/** With more rows the full pass, which reads its weights once for all of them, reads fewer bytes. */
const MOST_ROWS = 3;
const MOST_K = 2048;
const CAPACITY = 1 << 15;
/** `screenBuild` widens a row in a thread's scratch. Bounds grow with D, and with longer rows would decide little. */
const MOST_COLS = SCRATCH_BYTES / 4;

/**
 * Exact top-k and sampling that read an int8 copy of the head and the few full rows that matter; see
 * `docs/architecture.md`. Whatever the bounds can't decide goes back to the full pass: slower, never wrong.
 */
export class Screener {
  private readonly pool: Pool;
  private readonly arena: Arena;
  private readonly vector: (data: Float32Array | undefined) => number;

  constructor(pool: Pool, arena: Arena, vector: (data: Float32Array | undefined) => number) {
    this.pool = pool;
    this.arena = arena;
    this.vector = vector;
  }

  /** Answers what it can; returns what is left to the full pass, or undefined. */
  async answer(
    head: HeadWeights,
    hidden: Float32Array,
    N: number,
    query: HeadQuery,
    answer: Blank,
    first: number,
    counts: { screened: number; fellBack: number },
    signal?: AbortSignal,
  ): Promise<HeadQuery | undefined> {
    const matrix = head.matrix as WasmMatrix;
    const wanted = query.topK > 0 || query.sample !== undefined;
    const full =
      query.logSumExp || query.entropy || query.logits || (query.rank && query.targets !== undefined);
    const float = matrix.type === "f32" || matrix.type === "f16" || matrix.type === "bf16";
    if (!wanted || full || !float || N > MOST_ROWS || head.vocabSize < SMALLEST || query.topK > MOST_K)
      return query;
    if (query.topK * 4 > head.vocabSize || matrix.cols > MOST_COLS) return query;
    try {
      const open = await this.rows(head, hidden, N, query, answer, first, signal);
      counts.fellBack += open;
      counts.screened += N - open;
      if (open > 0) return query;
    } catch (error) {
      // No room for the screen or its lists: a pass that reads more, but needs less memory, can still answer.
      if (!(error instanceof InputError)) throw error;
      counts.fellBack += N;
      return query;
    }
    return query.targets && { ...query, topK: 0, sample: undefined };
  }

  /** Answers rows by the screen, which is built when there is none. @returns how many it leaves open */
  private async rows(
    head: HeadWeights,
    hidden: Float32Array,
    N: number,
    query: HeadQuery,
    answer: Blank,
    first: number,
    signal?: AbortSignal,
  ): Promise<number> {
    const matrix = head.matrix as WasmMatrix;
    matrix.screen ??= await this.build(matrix, signal);
    const { screen } = matrix;
    let open = 0;
    for (let n = 0; n < N; n++) {
      const row = hidden.subarray(n * matrix.cols, (n + 1) * matrix.cols);
      let ok = query.topK === 0 || (await this.top(head, screen, row, query.topK, answer, first + n, signal));
      if (ok && query.sample)
        ok = await this.sample(head, screen, row, query.sample, n, answer, first + n, signal);
      if (!ok) open++;
    }
    return open;
  }

  /** @throws InputError when it does not fit */
  private async build(matrix: WasmMatrix, signal?: AbortSignal): Promise<Screen> {
    const panelBytes = ((matrix.cols + 3) & ~3) * 16 + 192;
    const list = this.arena.alloc(128, "an op list");
    let address = 0;
    try {
      address = this.arena.alloc(Math.ceil(matrix.rows / 16) * panelBytes, `the screen of ${matrix.name}`);
      const records = new Records();
      records.push(OPCODE.screenBuild, true, [matrix.descriptor, address, panelBytes]);
      await this.execute(records, list, signal);
    } catch (error) {
      if (address) this.arena.release(address);
      throw error;
    } finally {
      this.arena.release(list);
    }
    return { address, panelBytes };
  }

  private async execute(records: Records, list: number, signal?: AbortSignal): Promise<void> {
    records.write(this.pool.memory, list);
    this.pool.word(CTL_OPS, list);
    this.pool.word(CTL_COUNT, records.count);
    this.pool.word(CTL_ROWS, 1);
    await this.pool.run(signal);
  }

  private async top(
    head: HeadWeights,
    screen: Screen,
    row: Float32Array,
    k: number,
    answer: Blank,
    at: number,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const found = await this.candidates(head, screen, row, k, undefined, signal);
    if (!found || found.length < k) return false;
    putTop(answer, k, at, found);
    return true;
  }

  private async sample(
    head: HeadWeights,
    screen: Screen,
    row: Float32Array,
    query: NonNullable<HeadQuery["sample"]>,
    n: number,
    answer: Blank,
    at: number,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const key = gumbelKey(query.seed, query.sequences[n], query.steps[n]);
    const found = await this.candidates(
      head,
      screen,
      row,
      1,
      { key, temperature: query.temperature },
      signal,
    );
    if (!found || found.length === 0) return false;
    let best = -Infinity;
    for (const { id, logit } of found.sort((a, b) => a.id - b.id)) {
      const value = Math.fround(Math.fround(logit / Math.fround(query.temperature)) + gumbel(key, id));
      if (value > best) {
        best = value;
        if (answer.sampleIds) answer.sampleIds[at] = id;
        if (answer.sampleLogits) answer.sampleLogits[at] = logit;
      }
    }
    return best > -Infinity;
  }

  /** Every id that may be among the k best, with its full logit; undefined when the bounds leave too many. */
  private async candidates(
    head: HeadWeights,
    screen: Screen,
    row: Float32Array,
    k: number,
    sample: { key: [number, number]; temperature: number } | undefined,
    signal?: AbortSignal,
  ): Promise<{ id: number; logit: number }[] | undefined> {
    const matrix = head.matrix as WasmMatrix;
    const { slices, memory } = this.pool;
    const D = matrix.cols;
    const own: number[] = [];
    const take = (bytes: number) => {
      const at = this.arena.alloc(bytes, "a screening");
      own.push(at);
      return at;
    };
    try {
      const bias = this.vector(head.bias);
      const x = take(D * 4 + 64);
      const x16 = take(((D + 3) & ~3) * 2);
      const heaps = take(slices * (8 + 8 * k));
      const listBytes = 8 + 8 * CAPACITY;
      const lists = take(slices * listBytes);
      const list = take(256);
      new Float32Array(memory.buffer, x, D).set(row);
      const bound = quantise(row, new Int16Array(memory.buffer, x16, (D + 3) & ~3));
      const words = [
        matrix.descriptor,
        screen.address,
        screen.panelBytes,
        head.vocabSize,
        bias,
        f(head.scale),
        x16,
        f(bound.scale),
        f(bound.norm),
        f(bound.lost),
        f(head.softcap ?? 0),
        k,
        heaps,
        lists,
        CAPACITY,
        sample ? 1 : 0,
        sample?.key[0] ?? 0,
        sample?.key[1] ?? 0,
        f(sample?.temperature ?? 1),
        x,
        // A candidate's full row lies in a panel of 16: past this many the full pass reads less.
        Math.floor(head.vocabSize / 24 / slices),
      ];
      const records = new Records();
      records.push(OPCODE.screen, true, words);
      records.push(OPCODE.rescore, true, words);
      await this.execute(records, list, signal);
      const found: { id: number; logit: number }[] = [];
      for (let t = 0; t < slices; t++) {
        if (new Int32Array(memory.buffer, lists + t * listBytes, 1)[0] > CAPACITY) return undefined;
        readHeap(memory.buffer, lists + t * listBytes, found);
      }
      return found;
    } finally {
      for (const at of own) this.arena.release(at);
    }
  }
}

/**
 * A hidden row as int16 with one scale, and what its rounding can cost: `norm` bounds ‖h‖, `lost` bounds
 * ‖h - scale·int16‖ + γ·‖h‖, where γ covers the float32 sums of both passes (Higham: D·u/(1 - D·u)). Rounded up.
 */
function quantise(row: Float32Array, out: Int16Array): { scale: number; norm: number; lost: number } {
  let top = 0;
  for (const x of row) top = Math.max(top, Math.abs(x));
  const scale = Math.fround(top / 32767);
  let norm = 0;
  let lost = 0;
  out.fill(0);
  row.forEach((x, i) => {
    const q = scale > 0 ? Math.max(-32767, Math.min(32767, Math.round(x / scale))) : 0;
    out[i] = q;
    norm += x * x;
    lost += (x - q * scale) ** 2;
  });
  const up = 1 + 1e-6;
  const unit = (row.length + 32) * 2 ** -24;
  const gamma = unit < 0.5 ? (2 * unit) / (1 - unit) : Infinity;
  norm = Math.sqrt(norm) * up;
  return { scale, norm, lost: (Math.sqrt(lost) + gamma * norm) * up };
}
