import type { Matrix } from "../device.js";
import type { MatmulOp, NormOp, Op, Program, RopeOp } from "../op.js";
import type { Gradients, RecordCall } from "../tape.js";
import type { BackwardStep, TrainingPlan } from "../training.js";
import { ACTIVATION, CTL_COUNT, CTL_OPS, CTL_ROWS, OPCODE } from "./abi.js";
import type { Arena } from "./arena.js";
import { type BodyRunner, fillRope, type Host, type Place, padded } from "./body.js";
import type { WasmCache } from "./cache.js";
import { dropoutFields } from "./lower.js";
import { WasmMatrix } from "./matrix.js";
import type { Pool } from "./pool.js";
import { f, Records } from "./records.js";

/** What a tape needs of its device. */
export interface TapeHost extends Host {
  readonly pool: Pool;
  readonly arena: Arena;
  readonly bodies: BodyRunner;
  /** Runs a task after all earlier calls of the device. */
  enqueue<T>(task: () => Promise<T>): Promise<T>;
  cache(program: Program): WasmCache;
  read(place: Place, width: number, rows: number): Float32Array;
}

/** One walk back: gradients' buffers, and the op list that fills them. */
export class Walk {
  private readonly held: number[] = [];
  private readonly flow = new Map<string, Place>();
  private readonly records = new Records();
  /** Gradients of vectors, on the device, by parameter. */
  private readonly vectors = new Map<Float32Array, number>();
  private moments = 0;
  private turned = 0;

  constructor(
    private readonly host: TapeHost,
    private readonly plan: TrainingPlan,
    private readonly program: Program,
    private readonly call: RecordCall,
    private readonly N: number,
    private readonly value: (name: string) => Place,
  ) {}

  async run(
    from: { readonly buffer: string; readonly gradient: Float32Array },
    into: Gradients,
    signal?: AbortSignal,
  ): Promise<Float32Array | undefined> {
    const { arena, pool } = this.host;
    this.layout(into);
    for (const gradient of into.matrices.values()) WasmMatrix.own(gradient, arena).changed();
    for (const step of this.plan.backward) this.step(step, into);
    const list = this.take(this.records.bytes, "an op list");
    // Views only now: a grown memory has a new buffer.
    const { buffer } = arena.memory;
    for (const [name, { address, stride }] of this.flow) {
      new Uint8Array(buffer, address, stride * this.N).fill(0);
      if (name !== from.buffer) continue;
      const width = this.program.buffers[name];
      for (let n = 0; n < this.N; n++)
        new Float32Array(buffer, address + n * stride, width).set(
          from.gradient.subarray(n * width, (n + 1) * width),
        );
    }
    for (const [vector, address] of this.vectors)
      new Float32Array(buffer, address, padded(vector.length)).fill(0);
    this.fillTables();
    this.records.write(arena.memory, list);
    pool.word(CTL_OPS, list);
    pool.word(CTL_COUNT, this.records.count);
    pool.word(CTL_ROWS, this.N);
    await pool.run(signal);
    for (const [vector, address] of this.vectors) {
      const sum = into.vectors.get(vector)!; // only such vectors are taken
      const part = new Float32Array(arena.memory.buffer, address, vector.length);
      for (let i = 0; i < sum.length; i++) sum[i] += part[i];
    }
    const given = this.call.vectors?.into;
    return given === undefined
      ? undefined
      : this.host.read(this.d(given), this.program.buffers[given], this.N);
  }

  release(): void {
    for (const address of this.held) this.host.arena.release(address);
  }

  private readonly tables: { op: RopeOp; address: number }[] = [];
  private positions = 0;
  private ids = 0;
  private sequences = 0;

  /** Takes all memory that the steps need. */
  private layout(into: Gradients): void {
    const { N, program } = this;
    for (const [name, width] of Object.entries(program.buffers)) {
      const stride = padded(width) * 4;
      this.flow.set(name, { address: this.take(N * stride, "gradients"), stride });
    }
    let groups = 0;
    let cols = 0;
    for (const op of program.ops) {
      if (op.op === "norm") groups = Math.max(groups, op.columns / op.group);
      if (op.op === "matmul") cols = Math.max(cols, op.weight.cols);
      if (op.op === "rope")
        this.tables.push({ op, address: this.take(N * op.frequencies.length * 8, "a table of angles") });
      for (const vector of vectorsOf(op))
        if (into.vectors.has(vector) && !this.vectors.has(vector))
          this.vectors.set(vector, this.take(padded(vector.length) * 4, "a vector's gradient"));
    }
    this.moments = this.take(N * groups * 8, "moments");
    this.turned = this.take(padded(cols) * this.turnedStride, "turned activations");
    this.positions = this.take(N * 4, "positions");
    this.ids = this.take(N * 4, "ids");
    this.sequences = this.take(this.call.lengths.length * 8, "sequences");
    // Three numbers for each key that a row sees.
    this.host.scratch(128 + 48 * (Math.max(...this.call.lengths) + 64));
  }

  private fillTables(): void {
    const { buffer } = this.host.arena.memory;
    const positions = this.call.lengths.flatMap((rows) => Array.from({ length: rows }, (_, i) => i));
    new Int32Array(buffer, this.positions, this.N).set(positions);
    if (this.call.ids) new Int32Array(buffer, this.ids, this.N).set(this.call.ids);
    let first = 0;
    const sequences = this.call.lengths.flatMap((rows) => {
      first += rows;
      return [first - rows, rows];
    });
    new Int32Array(buffer, this.sequences, sequences.length).set(sequences);
    // A rotation's transpose turns the other way.
    for (const { op, address } of this.tables)
      fillRope(
        new Float32Array(buffer, address, this.N * op.frequencies.length * 2),
        Int32Array.from(positions),
        { frequencies: op.frequencies.map((x) => -x), factor: op.attentionFactor },
      );
  }

  private step(step: BackwardStep, into: Gradients): void {
    const { op } = step;
    const { N } = this;
    const width = (name: string) => this.program.buffers[name];
    switch (op.op) {
      case "embed":
      case "positions": {
        const table = into.matrices.get(op.table);
        const { address, stride } = this.d(op.out);
        const embed = op.op === "embed";
        if (table)
          this.push(OPCODE.scatter, [
            this.own(table),
            embed ? this.ids : this.positions,
            address,
            stride,
            N,
            embed ? 0 : op.offset,
            f(embed ? op.scale : 1),
          ]);
        if (embed) this.push(OPCODE.clear, [address, stride, N, padded(width(op.out))]);
        break;
      }
      case "norm":
        this.norm(op, this.value(step.input!)); // the plan keeps what a norm reads
        break;
      case "matmul":
        this.matmul(op, this.value(step.input!), into);
        break;
      case "rope": {
        const table = this.tables.find((t) => t.op === op)!; // taken in layout
        this.push(OPCODE.rope, [
          ...this.at(op.buffer, op.column),
          op.heads,
          op.headDim,
          op.frequencies.length,
          op.layout === "interleaved" ? 1 : 0,
          table.address,
        ]);
        break;
      }
      case "attention": {
        const qkv = this.value(step.input!);
        this.push(OPCODE.attentionGradient, [
          qkv.address,
          qkv.stride,
          ...this.at(op.out),
          ...this.at(op.qkv),
          this.sequences,
          this.call.lengths.length,
          op.heads,
          op.kvHeads,
          op.headDim,
          f(op.scale),
          f(op.softcap ?? 0),
          op.window ?? 0,
        ]);
        break;
      }
      case "act":
      case "gate": {
        const gate = op.op === "gate";
        const x = this.value(step.input!);
        const up = gate ? this.value(step.up!) : undefined;
        const none = [0, 0];
        const out = gate ? op.out : op.buffer;
        this.push(OPCODE.actGradient, [
          x.address,
          x.stride,
          up?.address ?? 0,
          up?.stride ?? 0,
          ...this.at(out),
          ...(gate ? this.at(op.gate) : none),
          ...(gate ? this.at(op.up) : none),
          N,
          padded(width(out)),
          ACTIVATION[op.kind],
        ]);
        break;
      }
      case "scale":
        this.pointwise(OPCODE.scale, op.buffer, op.buffer, op.by);
        break;
      case "dropout": {
        const draw = this.call.dropout!; // checkRecord has seen it
        this.push(OPCODE.dropout, dropoutFields(op, this.program, draw, this.at(op.buffer), N));
        break;
      }
      case "add":
        this.pointwise(OPCODE.add, op.in, op.out);
        break;
      case "copy":
        this.pointwise(OPCODE.add, op.in, op.out);
        this.push(OPCODE.clear, [...this.at(op.out), N, padded(width(op.out))]);
        break;
    }
  }

  private norm(op: NormOp, x: Place): void {
    const from = [x.address + op.column * 4, x.stride];
    const shape = [this.N, op.columns, op.group];
    const rms = op.kind === "rms" ? 1 : 0;
    this.push(OPCODE.normMoments, [...from, this.moments, ...shape, rms, f(op.eps)]);
    const dOut = this.at(op.out, op.column);
    const weight = op.weight && this.vectors.get(op.weight);
    const bias = op.bias && this.vectors.get(op.bias);
    const length = (op.weight ?? op.bias)?.length ?? 0;
    if (weight || bias)
      this.push(OPCODE.normVectors, [
        ...from,
        this.moments,
        ...shape,
        ...dOut,
        weight ?? 0,
        bias ?? 0,
        length,
      ]);
    this.push(OPCODE.normInput, [
      ...from,
      this.moments,
      ...shape,
      ...dOut,
      this.host.vector(op.weight),
      rms,
      length,
      ...this.at(op.in, op.column),
    ]);
  }

  private matmul(op: MatmulOp, x: Place, into: Gradients): void {
    const { rows, cols } = op.weight;
    const weight = into.matrices.get(op.weight);
    const bias = op.bias && this.vectors.get(op.bias);
    const dOut = [...this.at(op.out, op.outColumn), this.N];
    if (weight)
      this.push(OPCODE.transpose, [x.address, x.stride, this.turned, this.turnedStride, this.N, cols]);
    if (weight || bias)
      this.push(OPCODE.weightGradient, [
        weight ? this.own(weight) : 0,
        this.turned,
        this.turnedStride,
        rows,
        bias ?? 0,
        0,
        ...dOut,
      ]);
    this.push(OPCODE.inputGradient, [this.own(op.weight), ...this.at(op.in), rows, 0, 0, ...dOut]);
    if (!op.accumulate) this.push(OPCODE.clear, [...this.at(op.out, op.outColumn), this.N, rows]);
  }

  /** d(to) (+)= d(from), or d(to) *= by. */
  private pointwise(code: number, to: string, from: string, by = 1): void {
    const [target, targetStride] = this.at(to);
    const [source, sourceStride] = this.at(from);
    const panels = Math.ceil(this.program.buffers[to] / 16);
    this.push(code, [target, source, target, targetStride, sourceStride, targetStride, panels, 0, f(by)]);
  }

  /** Bytes from column to column of turned activations; a little more than a power of two, which caches like. */
  private get turnedStride(): number {
    return (padded(this.N) + 16) * 4;
  }

  private push(code: number, fields: Parameters<Records["push"]>[2]): void {
    this.records.push(code, true, fields);
  }

  private own(matrix: Matrix): number {
    return WasmMatrix.own(matrix, this.host.arena).descriptor;
  }

  private d(name: string): Place {
    return this.flow.get(name)!; // one for each buffer of the program
  }

  private at(name: string, column = 0): [number, number] {
    const { address, stride } = this.d(name);
    return [address + column * 4, stride];
  }

  private take(bytes: number, what: string): number {
    const address = this.host.arena.alloc(bytes, what);
    this.held.push(address);
    return address;
  }
}

function vectorsOf(op: Op): Float32Array[] {
  if (op.op === "norm") return [op.weight, op.bias].filter((v) => v !== undefined);
  return op.op === "matmul" && op.bias ? [op.bias] : [];
}
