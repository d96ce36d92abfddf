import type {
  Device,
  HeadAnswer,
  HeadQuery,
  HeadWeights,
  KvCache,
  Matrix,
  MatrixSource,
  RunCall,
} from "../device.js";
import type { LossAnswer, LossQuery } from "../loss.js";
import type { Program } from "../op.js";
import { checkProgram } from "../program.js";
import { checkAsk, checkRun } from "../validate.js";
import { checkLoss } from "../validate-loss.js";
import {
  CTL_COUNT,
  CTL_OPS,
  CTL_POSITIONS,
  CTL_ROWS,
  CTL_SCRATCH,
  CTL_SCRATCH_SIZE,
  CTL_SEGMENTS,
  OPCODE,
  quantBytes,
  SCRATCH_BYTES,
} from "./abi.js";
import { Arena } from "./arena.js";
import { cacheLayout, WasmCache } from "./cache.js";
import { HeadRunner } from "./head.js";
import { LossRunner } from "./loss.js";
import { lower } from "./lower.js";
import { WasmMatrix } from "./matrix.js";
import { Pool } from "./pool.js";
import { f, Records } from "./records.js";
import { upload } from "./upload.js";

/** Floats of a buffer's row: padded so that every row is whole vectors. */
const padded = (width: number) => Math.ceil(width / 16) * 16;

/** The WebAssembly device: SIMD kernels, threads over one shared memory, in workers. */
export class WasmDevice implements Device {
  readonly kind = "wasm" as const;
  readonly threads: number;
  readonly description: string;
  private readonly pool: Pool;
  private readonly arena: Arena;
  private readonly heads: HeadRunner;
  private readonly losses: LossRunner;
  private queue: Promise<unknown> = Promise.resolve();
  private readonly vectors = new WeakMap<Float32Array, number>();
  private readonly layouts = new WeakMap<Program, { offsets: number[]; bytes: number }>();
  private workspace = { address: 0, bytes: 0 };
  private list = { address: 0, bytes: 0 };
  private scratchBytes = 0;
  /** The records that stand at `list`: valid while program, rows, pairs and workspace are the same. */
  private lowered: { program: Program; key: string; count: number } | undefined;

  private constructor(pool: Pool, description: string) {
    this.pool = pool;
    this.arena = new Arena(pool.memory);
    this.threads = pool.threads;
    this.description = description;
    this.heads = new HeadRunner(pool, this.arena, (data) => this.vector(data));
    this.losses = new LossRunner(pool, this.arena, (data) => this.vector(data));
    this.reserveScratch(SCRATCH_BYTES);
  }

  /**
   * Starts the workers.
   * @param threads how many threads; 0 runs on the caller's thread, without shared memory
   */
  static async start(threads: number, description: string): Promise<WasmDevice> {
    return new WasmDevice(await Pool.start(threads), description);
  }

  get memory(): number {
    return this.arena.used;
  }

  matrix(source: MatrixSource, signal?: AbortSignal): Promise<Matrix> {
    return this.enqueue(async () => {
      const matrix = new WasmMatrix(this.arena, source, (m, ids) => this.gather(m, ids));
      try {
        await upload(this.pool, this.arena, matrix, source, signal);
      } catch (error) {
        matrix.free();
        throw error;
      }
      return matrix;
    });
  }

  cache(program: Program): KvCache {
    return new WasmCache(this.arena, this.layout(program).bytes);
  }

  run(program: Program, call: RunCall): Promise<Float32Array[]> {
    return this.enqueue(() => this.runNow(program, call));
  }

  ask(head: HeadWeights, hidden: Float32Array, query: HeadQuery, signal?: AbortSignal): Promise<HeadAnswer> {
    return this.enqueue(async () => {
      const { N, D } = checkAsk(head, hidden, query);
      (head.matrix as WasmMatrix).check();
      return this.heads.ask(head, hidden, N, D, query, signal);
    });
  }

  loss(head: HeadWeights, hidden: Float32Array, query: LossQuery, signal?: AbortSignal): Promise<LossAnswer> {
    return this.enqueue(async () => {
      const { N } = checkLoss(head, hidden, query);
      for (const matrix of [head.matrix, query.teacher?.head.matrix, query.gradients.weight])
        if (matrix) WasmMatrix.own(matrix, this.arena);
      return this.losses.loss(head, hidden, N, query, signal);
    });
  }

  async close(): Promise<void> {
    await this.pool.close();
  }

  private enqueue<T>(task: () => Promise<T>): Promise<T> {
    const result = this.queue.then(() => {
      this.pool.check();
      return task();
    });
    this.queue = result.catch(() => undefined);
    return result;
  }

  private layout(program: Program): { offsets: number[]; bytes: number } {
    let layout = this.layouts.get(program);
    if (!layout) {
      checkProgram(program);
      layout = cacheLayout(program);
      this.layouts.set(program, layout);
    }
    return layout;
  }

  /** The address of a float32 vector on the device, padded with zeros to whole vectors; uploaded at first use. */
  private vector(data: Float32Array | undefined): number {
    if (!data) return 0;
    let address = this.vectors.get(data);
    if (address === undefined) {
      address = this.arena.alloc(padded(data.length) * 4, "a vector");
      const view = new Float32Array(this.pool.memory.buffer, address, padded(data.length));
      view.fill(0);
      view.set(data);
      this.vectors.set(data, address);
    }
    return address;
  }

  private reserveScratch(bytes: number): void {
    if (bytes <= this.scratchBytes) return;
    const old = this.pool.read(CTL_SCRATCH);
    if (old) this.arena.release(old);
    this.scratchBytes = Math.ceil(bytes / 4096) * 4096;
    this.pool.word(
      CTL_SCRATCH,
      this.arena.alloc(this.scratchBytes * this.threads, "the threads' private memory"),
    );
    this.pool.word(CTL_SCRATCH_SIZE, this.scratchBytes);
  }

  private reserve(space: { address: number; bytes: number }, bytes: number, what: string): boolean {
    if (bytes <= space.bytes) return false;
    if (space.address) this.arena.release(space.address);
    space.address = 0;
    space.bytes = 0;
    space.address = this.arena.alloc(bytes, what);
    space.bytes = bytes;
    return true;
  }

  private gather(matrix: WasmMatrix, ids: Int32Array): Promise<Float32Array> {
    return this.enqueue(async () => {
      if (ids.length === 0) return new Float32Array(0);
      const stride = padded(matrix.cols) * 4;
      const out = this.arena.alloc(ids.length * stride, "gathered rows");
      const input = this.arena.alloc(ids.length * 4, "row ids");
      const list = this.arena.alloc(128, "an op list");
      try {
        const buffer = this.pool.memory.buffer;
        new Int32Array(buffer, input, ids.length).set(ids);
        const records = new Records();
        records.push(OPCODE.embed, true, [matrix.descriptor, input, out, stride, f(1)]);
        records.write(this.pool.memory, list);
        this.pool.word(CTL_OPS, list);
        this.pool.word(CTL_COUNT, 1);
        this.pool.word(CTL_ROWS, ids.length);
        await this.pool.run();
        return readRows(this.pool.memory, out, stride, matrix.cols, Array.from(ids.keys()));
      } finally {
        for (const address of [out, input, list]) this.arena.release(address);
      }
    });
  }

  private async runNow(program: Program, call: RunCall): Promise<Float32Array[]> {
    const { offsets } = this.layout(program);
    const { N } = checkRun(program, call);
    if (N === 0) return call.outputs.map(() => new Float32Array(0));
    // Places of everything in the workspace, one after the other.
    let size = 0;
    const take = (bytes: number) => {
      const at = size;
      size += Math.ceil(bytes / 64) * 64;
      return at;
    };
    const buffers = new Map<string, { address: number; stride: number }>();
    for (const [name, width] of Object.entries(program.buffers))
      buffers.set(name, { address: take(N * padded(width) * 4), stride: padded(width) * 4 });
    const widest = Math.max(32, ...program.ops.map((op) => (op.op === "matmul" ? op.weight.cols : 0)));
    const quant = take(N * quantBytes(Math.ceil(widest / 32) * 32));
    const ids = take(N * 4);
    const positionsAt = take(N * 4);
    const tablesAt = take(N * 4);
    const pairsAt = take(N * 8);
    const ropes: { frequencies: Float64Array; factor: number; at: number }[] = [];
    for (const op of program.ops)
      if (
        op.op === "rope" &&
        !ropes.some((r) => r.frequencies === op.frequencies && r.factor === op.attentionFactor)
      )
        ropes.push({
          frequencies: op.frequencies,
          factor: op.attentionFactor,
          at: take(N * op.frequencies.length * 8),
        });
    const moved = this.reserve(this.workspace, size, "the buffers of a run");
    const base = this.workspace.address;

    const positions = new Int32Array(N);
    const tables = new Uint32Array(N);
    const pairs: number[] = [];
    let row = 0;
    let longest = 0;
    for (const { cache, rows } of call.segments) {
      const own = cache as WasmCache;
      const table = own.reserve(rows);
      for (let i = 0; i < rows; i++) {
        positions[row + i] = own.length + i;
        tables[row + i] = table;
        if (i % 2 === 0) pairs.push(row + i, row + Math.min(i + 1, rows - 1));
      }
      row += rows;
      longest = Math.max(longest, own.length + rows);
    }
    this.reserveScratch(128 + 8 * (longest + 64));
    // Views are made after every allocation: a grown memory has a new buffer.
    const buffer = this.pool.memory.buffer;
    new Int32Array(buffer, base + positionsAt, N).set(positions);
    new Uint32Array(buffer, base + tablesAt, N).set(tables);
    new Int32Array(buffer, base + pairsAt, pairs.length).set(pairs);
    if (call.ids) new Int32Array(buffer, base + ids, N).set(call.ids);
    for (const rope of ropes)
      fillRope(new Float32Array(buffer, base + rope.at, N * rope.frequencies.length * 2), positions, rope);
    if (call.vectors) {
      const into = buffers.get(call.vectors.into);
      const width = program.buffers[call.vectors.into];
      if (into)
        for (let n = 0; n < N; n++)
          new Float32Array(buffer, base + into.address + n * into.stride, width).set(
            call.vectors.data.subarray(n * width, (n + 1) * width),
          );
    }

    const key = `${N} ${pairs.length} ${base}`;
    if (moved || this.lowered?.program !== program || this.lowered.key !== key) {
      const records = new Records();
      lower(
        program,
        {
          buffers: new Map(
            [...buffers].map(([name, b]) => [name, { address: base + b.address, stride: b.stride }]),
          ),
          quant: base + quant,
          ids: base + ids,
          positions: base + positionsAt,
          rope: (frequencies, factor) =>
            base + (ropes.find((r) => r.frequencies === frequencies && r.factor === factor)?.at ?? 0),
          vector: (data) => this.vector(data),
          cacheOffsets: offsets,
          pairs: base + pairsAt,
          pairCount: pairs.length / 2,
        },
        records,
      );
      this.reserve(this.list, records.bytes, "an op list");
      records.write(this.pool.memory, this.list.address);
      this.lowered = { program, key, count: records.count };
    }
    this.pool.word(CTL_OPS, this.list.address);
    this.pool.word(CTL_COUNT, this.lowered.count);
    this.pool.word(CTL_ROWS, N);
    this.pool.word(CTL_SEGMENTS, base + tablesAt);
    this.pool.word(CTL_POSITIONS, base + positionsAt);
    await this.pool.run(call.signal);
    for (const { cache, rows } of call.segments) (cache as WasmCache).length += rows;
    return call.outputs.map(({ buffer: name, rows }) => {
      const place = buffers.get(name);
      if (!place) throw new Error(`the program has no buffer "${name}"`);
      const wanted = rows ? Array.from(rows) : Array.from({ length: N }, (_, n) => n);
      return readRows(this.pool.memory, base + place.address, place.stride, program.buffers[name], wanted);
    });
  }
}

function readRows(
  memory: WebAssembly.Memory,
  at: number,
  stride: number,
  width: number,
  rows: number[],
): Float32Array {
  const out = new Float32Array(rows.length * width);
  rows.forEach((n, i) => {
    out.set(new Float32Array(memory.buffer, at + n * stride, width), i * width);
  });
  return out;
}

/** cos and sin, [N][2][pairs], of position · frequency, times the attention factor. */
function fillRope(
  out: Float32Array,
  positions: Int32Array,
  rope: { frequencies: Float64Array; factor: number },
): void {
  const pairs = rope.frequencies.length;
  for (let n = 0; n < positions.length; n++)
    for (let i = 0; i < pairs; i++) {
      const angle = positions[n] * rope.frequencies[i];
      out[n * pairs * 2 + i] = Math.cos(angle) * rope.factor;
      out[n * pairs * 2 + pairs + i] = Math.sin(angle) * rope.factor;
    }
}
