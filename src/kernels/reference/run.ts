import { InputError } from "../../errors.js";
import type { RunCall } from "../device.js";
import type { AttentionOp, MatmulOp, Op, Program } from "../op.js";
import type { DropoutDraw } from "../tape.js";
import { checkRun, type RunShape } from "../validate.js";
import { actForward, gateForward } from "./act.js";
import { attendHead } from "./attention.js";
import type { Breather } from "./breather.js";
import { PIECE } from "./breather.js";
import { ReferenceCache } from "./cache.js";
import { dropoutForward, dropoutKey } from "./dropout.js";
import { addForward, copyForward, scaleForward } from "./elementwise.js";
import { embedForward } from "./embed.js";
import { matmulForward } from "./matmul.js";
import { type Ledger, plain } from "./matrix.js";
import { normForward } from "./norm.js";
import { positionsForward } from "./positions.js";
import { ropeForward } from "./rope.js";

/** What one element of an activation or a norm may cost, in products. */
const COST = 64;

/**
 * Runs a program op by op. Keys and values are written behind the caches' lengths, which grow only at the very end: a
 * run that fails or is aborted leaves every cache as it was.
 * @param draw the masks of `dropout` ops; without it nothing is dropped
 * @returns [rows, width] for each wanted output
 * @throws InputError for a call that does not fit the program; AbortError
 */
export async function runProgram(
  program: Program,
  call: RunCall,
  breather: Breather,
  ledger: Ledger,
  draw?: DropoutDraw,
): Promise<Float32Array[]> {
  const shape = checkRun(program, call);
  const caches = call.segments.map(({ cache }, index) => {
    if (!(cache instanceof ReferenceCache))
      throw new InputError(`run: segment ${index}: the cache belongs to another device`);
    if (!cache.fits(program.cache))
      throw new InputError(`run: segment ${index}: the cache was made for a program of another shape`);
    return cache;
  });
  const bytes = Object.values(program.buffers).reduce((sum, width) => sum + shape.N * width * 4, 0);
  ledger.bytes += bytes;
  for (const cache of caches) cache.busy = true;
  try {
    for (const [i, cache] of caches.entries()) cache.reserve(call.segments[i].rows);
    const run = new Run(program, call, shape, caches, breather, draw);
    for (const op of program.ops) await run.op(op);
    breather.stopIfPointless();
    // All or none: a cache that was freed meanwhile must be found before another has grown.
    for (const cache of caches) cache.reserve(0);
    for (const [i, cache] of caches.entries()) cache.commit(call.segments[i].rows);
    return call.outputs.map(({ buffer, rows }) => run.output(buffer, rows));
  } finally {
    for (const cache of caches) cache.busy = false;
    ledger.bytes -= bytes;
  }
}

/** The buffers of one run, and what each op does to them. */
class Run {
  private readonly buffers = new Map<string, Float32Array>();

  constructor(
    private readonly program: Program,
    private readonly call: RunCall,
    private readonly shape: RunShape,
    private readonly caches: readonly ReferenceCache[],
    private readonly breather: Breather,
    private readonly draw: DropoutDraw | undefined,
  ) {
    for (const [name, width] of Object.entries(program.buffers))
      this.buffers.set(name, new Float32Array(shape.N * width));
    if (call.vectors) this.buffer(call.vectors.into).set(call.vectors.data);
  }

  async op(op: Op): Promise<void> {
    const { positions } = this.shape;
    switch (op.op) {
      case "embed": {
        const table = plain(op.table);
        const ids = this.call.ids ?? new Int32Array(0);
        return this.rows(op.out, (first, end) =>
          embedForward(table, ids.subarray(first, end), op.table.cols, op.scale),
        );
      }
      case "positions": {
        const table = plain(op.table);
        return this.rows(op.out, (first, end) =>
          positionsForward(this.part(op.out, first, end), table, positions.subarray(first, end), op.offset),
        );
      }
      case "norm":
        return this.columns(op.in, op.out, op.column, op.columns, (x) =>
          normForward(op, x, op.columns, op.weight, op.bias),
        );
      case "rope":
        return this.columns(op.buffer, op.buffer, op.column, op.heads * op.headDim, (x, first, end) =>
          ropeForward(op, x, positions.subarray(first, end)),
        );
      case "matmul":
        return this.matmul(op);
      case "attention":
        return this.attention(op);
      case "act":
        return this.rows(op.buffer, (first, end) => actForward(op.kind, this.part(op.buffer, first, end)));
      case "gate":
        return this.rows(op.out, (first, end) =>
          gateForward(op.kind, this.part(op.gate, first, end), this.part(op.up, first, end)),
        );
      case "add":
        return this.rows(op.out, (first, end) =>
          addForward(this.part(op.out, first, end), this.part(op.in, first, end)),
        );
      case "scale":
        return this.rows(op.buffer, (first, end) => scaleForward(this.part(op.buffer, first, end), op.by));
      case "dropout": {
        if (!this.draw) return;
        const key = dropoutKey(this.draw, op.stream);
        return this.rows(op.buffer, (first, end) =>
          dropoutForward(
            this.part(op.buffer, first, end),
            this.program.buffers[op.buffer],
            op.rate,
            key,
            first,
          ),
        );
      }
      case "copy":
        return this.rows(op.out, (first, end) => copyForward(this.part(op.in, first, end)));
    }
  }

  output(name: string, rows: Int32Array | undefined): Float32Array {
    const all = this.buffer(name);
    return rows ? embedForward(all, rows, this.program.buffers[name]) : all.slice();
  }

  /** Each output is summed by itself, so how the work is cut changes nothing. */
  private async matmul(op: MatmulOp): Promise<void> {
    const { rows: O, cols: K } = op.weight;
    const weight = plain(op.weight);
    const width = this.program.buffers[op.out];
    const out = this.buffer(op.out);
    const block = Math.max(1, Math.floor(PIECE / K));
    for (let first = 0; first < this.shape.N; first += block) {
      const end = Math.min(this.shape.N, first + block);
      const x = this.part(op.in, first, end);
      await this.breather.pieces(O, (end - first) * K, (o, oEnd) => {
        const y = matmulForward(x, weight.subarray(o * K, oEnd * K), op.bias?.subarray(o, oEnd), K);
        for (let i = 0; i < y.length; i++) {
          const n = first + Math.floor(i / (oEnd - o));
          const at = n * width + op.outColumn + o + (i % (oEnd - o));
          out[at] = op.accumulate ? out[at] + y[i] : y[i];
        }
      });
    }
  }

  private async attention(op: AttentionOp): Promise<void> {
    const { heads, headDim, kvHeads, layer } = op;
    const qkv = this.buffer(op.qkv);
    const out = this.buffer(op.out);
    const queries = heads * headDim;
    const keys = kvHeads * headDim;
    const width = queries + 2 * keys;
    for (const [s, { rows }] of this.call.segments.entries()) {
      const { k, v } = this.caches[s].layer(layer);
      const start = this.shape.starts[s];
      for (let n = start; n < start + rows; n++) {
        const at = this.shape.positions[n] * keys;
        k.set(qkv.subarray(n * width + queries, n * width + queries + keys), at);
        v.set(qkv.subarray(n * width + queries + keys, (n + 1) * width), at);
      }
      for (let n = start; n < start + rows; n++)
        for (let h = 0; h < heads; h++) {
          const position = this.shape.positions[n];
          const mixed = attendHead(op, qkv, n * width + h * headDim, k, v, h, position);
          out.set(mixed, n * queries + h * headDim);
          await this.breather.pause();
        }
    }
  }

  /** Replaces rows of `out` by what `work` makes of them, a piece at a time. */
  private rows(out: string, work: (first: number, end: number) => Float32Array): Promise<void> {
    const width = this.program.buffers[out];
    return this.breather.pieces(this.shape.N, width * COST, (first, end) =>
      this.buffer(out).set(work(first, end), first * width),
    );
  }

  /** Replaces `count` columns of `out` from `column` on by what `work` makes of those of `from`. */
  private columns(
    from: string,
    out: string,
    column: number,
    count: number,
    work: (x: Float32Array, first: number, end: number) => Float32Array,
  ): Promise<void> {
    const source = this.buffer(from);
    const target = this.buffer(out);
    const widthIn = this.program.buffers[from];
    const widthOut = this.program.buffers[out];
    return this.breather.pieces(this.shape.N, count * COST, (first, end) => {
      const x = new Float32Array((end - first) * count);
      for (let n = first; n < end; n++)
        x.set(source.subarray(n * widthIn + column, n * widthIn + column + count), (n - first) * count);
      const y = work(x, first, end);
      for (let n = first; n < end; n++)
        target.set(y.subarray((n - first) * count, (n - first + 1) * count), n * widthOut + column);
    });
  }

  private part(name: string, first: number, end: number): Float32Array {
    const width = this.program.buffers[name];
    return this.buffer(name).subarray(first * width, end * width);
  }

  private buffer(name: string): Float32Array {
    const data = this.buffers.get(name);
    if (!data) throw new Error(`no buffer "${name}"`); // checkProgram has seen every name
    return data;
  }
}
