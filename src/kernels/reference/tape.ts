import { withArrays } from "../arrays.js";
import type { KvCache, RunCall } from "../device.js";
import type { AttentionOp, Program } from "../op.js";
import {
  checkBackward,
  checkRecord,
  type DropoutDraw,
  type Gradients,
  type RecordCall,
  type Tape,
} from "../tape.js";
import { type BackwardStep, type TrainingPlan, trainingPlan } from "../training.js";
import { actBackward, gateBackward } from "./act.js";
import { attentionBackward } from "./attention.js";
import type { Breather } from "./breather.js";
import { dropoutBackward, dropoutKey } from "./dropout.js";
import { embedBackward } from "./embed.js";
import { matmulBackward } from "./matmul.js";
import { plain } from "./matrix.js";
import { normBackward } from "./norm.js";
import { positionsBackward } from "./positions.js";
import { ropeBackward } from "./rope.js";

/** What a tape needs of its device. */
export interface TapeHost {
  cache(program: Program): KvCache;
  /** `Device.run`, with the masks of its `dropout` ops. */
  run(program: Program, call: RunCall, draw: DropoutDraw | undefined): Promise<Float32Array[]>;
  /** Runs a task after all earlier ones. */
  enqueue<T>(signal: AbortSignal | undefined, task: (breather: Breather) => Promise<T>): Promise<T>;
}

/** The reference's tape: the forward's buffers as arrays, and the way back op by op. */
export class ReferenceTape implements Tape {
  private freed = false;

  private constructor(
    private readonly host: TapeHost,
    private readonly plan: TrainingPlan,
    private readonly program: Program,
    private readonly call: RecordCall,
    private readonly positions: Int32Array,
    private readonly values: ReadonlyMap<string, Float32Array>,
  ) {}

  /**
   * Runs a program and keeps what its backward reads.
   * @throws InputError for a call that does not fit the program
   */
  static async record(host: TapeHost, program: Program, call: RecordCall): Promise<ReferenceTape> {
    checkRecord(program, call);
    const plan = trainingPlan(program);
    const segments = call.lengths.map((rows) => ({ cache: host.cache(plan.forward), rows }));
    try {
      const names = [...new Set([...plan.kept, ...Object.values(plan.final)])];
      const { ids, vectors, dropout, signal } = call;
      const outputs = names.map((buffer) => ({ buffer }));
      const values = await host.run(plan.forward, { segments, ids, vectors, outputs, signal }, dropout);
      const positions = Int32Array.from(
        call.lengths.flatMap((rows) => Array.from({ length: rows }, (_, i) => i)),
      );
      return new ReferenceTape(
        host,
        plan,
        program,
        { ...call, ids: ids?.slice(), lengths: [...call.lengths], dropout: dropout && { ...dropout } },
        positions,
        new Map(names.map((name, i) => [name, values[i]])),
      );
    } finally {
      for (const { cache } of segments) cache.free();
    }
  }

  get bytes(): number {
    return [...this.values.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  output(buffer: string): Float32Array {
    this.check();
    return this.value(this.plan.final[buffer]).slice();
  }

  backward(
    from: { readonly buffer: string; readonly gradient: Float32Array },
    into: Gradients,
    signal?: AbortSignal,
  ): Promise<Float32Array | undefined> {
    return withArrays({ gradient: from.gradient }, () =>
      this.host.enqueue(signal, (breather) => this.walk(from, into, breather)),
    );
  }

  private async walk(
    from: { readonly buffer: string; readonly gradient: Float32Array },
    into: Gradients,
    breather: Breather,
  ): Promise<Float32Array | undefined> {
    this.check();
    const N = this.positions.length;
    checkBackward(this.program, N, from, into);
    const flow = new Map<string, Float32Array>();
    for (const [name, width] of Object.entries(this.program.buffers))
      flow.set(name, new Float32Array(N * width));
    flow.get(from.buffer)?.set(from.gradient);
    for (const step of this.plan.backward) {
      this.step(step, flow, into);
      await breather.pause();
    }
    return this.call.vectors && flow.get(this.call.vectors.into);
  }

  free(): void {
    this.freed = true;
  }

  private check(): void {
    if (this.freed) throw new Error("this tape was freed");
  }

  private step(step: BackwardStep, flow: ReadonlyMap<string, Float32Array>, into: Gradients): void {
    const { op } = step;
    const d = (name: string) => flow.get(name)!; // one for each buffer of the program
    const width = (name: string) => this.program.buffers[name];
    switch (op.op) {
      case "embed": {
        const table = into.matrices.get(op.table);
        if (table) embedBackward(plain(table), this.call.ids ?? [], d(op.out), op.table.cols, op.scale);
        d(op.out).fill(0);
        break;
      }
      case "positions": {
        const table = into.matrices.get(op.table);
        if (table) positionsBackward(plain(table), this.positions, op.offset, d(op.out));
        break;
      }
      case "norm": {
        const dOut = columns(d(op.out), width(op.out), op.column, op.columns);
        const x = columns(this.value(step.input), width(op.in), op.column, op.columns);
        const { dx, dWeight, dBias } = normBackward(op, x, op.columns, dOut, op.weight, op.bias);
        addVector(into, op.weight, dWeight);
        addVector(into, op.bias, dBias);
        clear(d(op.out), width(op.out), op.column, op.columns);
        addColumns(d(op.in), width(op.in), op.column, dx, op.columns);
        break;
      }
      case "matmul": {
        const { rows, cols } = op.weight;
        const dOut = columns(d(op.out), width(op.out), op.outColumn, rows);
        const { dx, dw, dBias } = matmulBackward(this.value(step.input), plain(op.weight), dOut, cols);
        const weight = into.matrices.get(op.weight);
        if (weight) addTo(plain(weight), dw);
        addVector(into, op.bias, dBias);
        if (!op.accumulate) clear(d(op.out), width(op.out), op.outColumn, rows);
        addTo(d(op.in), dx);
        break;
      }
      case "rope": {
        const count = op.heads * op.headDim;
        const turned = ropeBackward(
          op,
          columns(d(op.buffer), width(op.buffer), op.column, count),
          this.positions,
        );
        clear(d(op.buffer), width(op.buffer), op.column, count);
        addColumns(d(op.buffer), width(op.buffer), op.column, turned, count);
        break;
      }
      case "attention":
        this.attention(op, this.value(step.input), d(op.out), d(op.qkv));
        break;
      case "act":
        d(op.buffer).set(actBackward(op.kind, this.value(step.input), d(op.buffer)));
        break;
      case "gate": {
        const { dGate, dUp } = gateBackward(op.kind, this.value(step.input), this.value(step.up), d(op.out));
        d(op.out).fill(0);
        addTo(d(op.gate), dGate);
        addTo(d(op.up), dUp);
        break;
      }
      case "scale":
        for (let i = 0, x = d(op.buffer); i < x.length; i++) x[i] *= op.by;
        break;
      case "dropout": {
        const key = dropoutKey(this.call.dropout!, op.stream); // checkRecord has seen it
        d(op.buffer).set(dropoutBackward(d(op.buffer), width(op.buffer), op.rate, key));
        break;
      }
      case "add":
        addTo(d(op.in), d(op.out));
        break;
      case "copy": {
        const dOut = d(op.out).slice();
        d(op.out).fill(0);
        addTo(d(op.in), dOut);
        break;
      }
    }
  }

  /** Sequence by sequence; each begins at position 0. */
  private attention(op: AttentionOp, qkv: Float32Array, dOut: Float32Array, dQkv: Float32Array): void {
    const queries = op.heads * op.headDim;
    const keys = op.kvHeads * op.headDim;
    const width = queries + 2 * keys;
    let first = 0;
    for (const rows of this.call.lengths) {
      const all = qkv.subarray(first * width, (first + rows) * width);
      const { dq, dk, dv } = attentionBackward(
        op,
        columns(all, width, 0, queries),
        columns(all, width, queries, keys),
        columns(all, width, queries + keys, keys),
        0,
        dOut.slice(first * queries, (first + rows) * queries),
      );
      const into = dQkv.subarray(first * width, (first + rows) * width);
      addColumns(into, width, 0, dq, queries);
      addColumns(into, width, queries, dk, keys);
      addColumns(into, width, queries + keys, dv, keys);
      first += rows;
    }
    dOut.fill(0);
  }

  private value(name: string | undefined): Float32Array {
    return this.values.get(name!)!; // the plan keeps what its steps name
  }
}

/** Columns [first, first + count) of [N, width], as [N, count]. */
function columns(data: Float32Array, width: number, first: number, count: number): Float32Array {
  const out = new Float32Array((data.length / width) * count);
  for (let n = 0; n * width < data.length; n++)
    out.set(data.subarray(n * width + first, n * width + first + count), n * count);
  return out;
}

function clear(data: Float32Array, width: number, first: number, count: number): void {
  for (let at = first; at < data.length; at += width) data.fill(0, at, at + count);
}

function addColumns(
  data: Float32Array,
  width: number,
  first: number,
  part: Float32Array,
  count: number,
): void {
  for (let i = 0; i < part.length; i++) data[Math.floor(i / count) * width + first + (i % count)] += part[i];
}

function addTo(sum: Float32Array, part: Float32Array): void {
  for (let i = 0; i < part.length; i++) sum[i] += part[i];
}

function addVector(
  into: Gradients,
  parameter: Float32Array | undefined,
  part: Float32Array | undefined,
): void {
  const sum = parameter && into.vectors.get(parameter);
  if (sum && part) addTo(sum, part);
}
