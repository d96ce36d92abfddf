import type { RunCall } from "../device.js";
import type { Program } from "../op.js";
import { checkProgram } from "../program.js";
import type { DropoutDraw } from "../tape.js";
import { CTL_COUNT, CTL_OPS, CTL_POSITIONS, CTL_ROWS, CTL_SEGMENTS, quantBytes } from "./abi.js";
import type { Arena } from "./arena.js";
import { cacheLayout, type WasmCache } from "./cache.js";
import { lower } from "./lower.js";
import { WasmMatrix } from "./matrix.js";
import type { Pool } from "./pool.js";
import { Records } from "./records.js";

/** Floats of a buffer's row: padded so that every row is whole vectors. */
export const padded = (width: number) => Math.ceil(width / 16) * 16;

/** A buffer in memory: its first row, and bytes from row to row. */
export interface Place {
  readonly address: number;
  readonly stride: number;
}

/** Memory that is kept from call to call and grown when it does not do. */
export interface Space {
  address: number;
  bytes: number;
}

/** What runners ask of their device. */
export interface Host {
  /** The address of a float32 vector, padded with zeros to whole vectors; uploaded at first use. */
  vector(data: Float32Array | undefined): number;
  /** Makes each thread's private memory at least this large. */
  scratch(bytes: number): void;
}

/** Runs programs: lays their buffers out, turns them into op records, and starts the pool. */
export class BodyRunner {
  private readonly layouts = new WeakMap<Program, { offsets: number[]; bytes: number }>();
  private readonly workspace: Space = { address: 0, bytes: 0 };
  private readonly list: Space = { address: 0, bytes: 0 };
  /** The records that stand at `list`: valid while program, rows, pairs and workspace are the same. */
  private lowered: { program: Program; key: string; count: number } | undefined;

  constructor(
    private readonly pool: Pool,
    private readonly arena: Arena,
    private readonly host: Host,
  ) {}

  /** How a program's cache lies in a block. @throws InputError as `checkProgram` */
  layout(program: Program): { offsets: number[]; bytes: number } {
    let layout = this.layouts.get(program);
    if (!layout) {
      checkProgram(program);
      layout = cacheLayout(program);
      this.layouts.set(program, layout);
    }
    return layout;
  }

  private reserve(space: Space, bytes: number, what: string): boolean {
    if (bytes <= space.bytes) return false;
    if (space.address) this.arena.release(space.address);
    space.address = 0;
    space.bytes = 0;
    space.address = this.arena.alloc(bytes, what);
    space.bytes = bytes;
    return true;
  }

  /**
   * Runs a program with its buffers in `space`, and lets the caches grow.
   * @param draw the masks of `dropout` ops; without it nothing is dropped
   * @returns where the buffers stand
   * @throws InputError for a matrix of another device; Error for one that was freed
   */
  async launch(
    program: Program,
    call: Omit<RunCall, "outputs">,
    space: Space = this.workspace,
    draw?: DropoutDraw,
  ): Promise<ReadonlyMap<string, Place>> {
    const { offsets } = this.layout(program);
    // Records that stand from the last run know nothing of what was freed since.
    for (const op of program.ops) {
      if (op.op === "matmul") WasmMatrix.own(op.weight, this.arena);
      else if (op.op === "embed" || op.op === "positions") WasmMatrix.own(op.table, this.arena);
    }
    const N = call.segments.reduce((sum, { rows }) => sum + rows, 0);
    // Places of everything in the workspace, one after the other.
    let size = 0;
    const take = (bytes: number) => {
      const at = size;
      size += Math.ceil(bytes / 64) * 64;
      return at;
    };
    const buffers = new Map<string, Place>();
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
    const moved = this.reserve(space, size, "the buffers of a run");
    const base = space.address;

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
    this.host.scratch(128 + 8 * (longest + 64));
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

    const key = `${N} ${pairs.length} ${base} ${draw ? JSON.stringify(draw) : ""}`;
    if (moved || this.lowered?.program !== program || this.lowered.key !== key) {
      this.lowered = undefined;
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
          vector: (data) => this.host.vector(data),
          cacheOffsets: offsets,
          pairs: base + pairsAt,
          pairCount: pairs.length / 2,
          rows: N,
          draw,
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
    return new Map(
      [...buffers].map(([name, { address, stride }]) => [name, { address: base + address, stride }]),
    );
  }
}

/** cos and sin, [N][2][pairs], of position · frequency, times the attention factor. */
export function fillRope(
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
