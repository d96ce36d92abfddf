import type { Matrix } from "../device.js";
import type { MatmulOp, NormOp, Program } from "../op.js";
import type { Gradients, RecordCall } from "../tape.js";
import type { BackwardStep } from "../training.js";
import { ACTIVATION, CTL_COUNT, CTL_OPS, CTL_ROWS, OPCODE } from "./abi.js";
import type { Arena } from "./arena.js";
import { type BodyRunner, type Host, type Place, padded } from "./body.js";
import type { WasmCache } from "./cache.js";
import { Flow } from "./flow.js";
import { dropoutFields } from "./lower.js";
import { WasmMatrix } from "./matrix.js";
import type { Pool } from "./pool.js";
import { f, Records } from "./records.js";

/** What a tape needs of its device. */
export interface TapeHost extends Host {
  readonly pool: Pool;
  readonly arena: Arena;
  readonly bodies: BodyRunner;
  /** Runs a task after all earlier calls of the device. @throws AbortError at once when the signal fires before */
  enqueue<T>(signal: AbortSignal | undefined, task: () => Promise<T>): Promise<T>;
  cache(program: Program): WasmCache;
  read(place: Place, width: number, rows: number): Float32Array;
}

/** One walk back: a block's op list after another's, over one set of gradients. */
export class Walk {
  private readonly flow: Flow;
  private records = new Records();
  private values: ReadonlyMap<string, Place> = new Map();

  constructor(
    private readonly host: TapeHost,
    private readonly program: Program,
    private readonly call: RecordCall,
    private readonly N: number,
    private readonly into: Gradients,
  ) {
    this.flow = new Flow(host, program, call, N);
  }

  /** Takes the memory of gradients, and begins with one. */
  begin(from: { readonly buffer: string; readonly gradient: Float32Array }): void {
    this.flow.take(this.into);
    for (const gradient of this.into.matrices.values()) WasmMatrix.own(gradient, this.host.arena).changed();
    this.flow.fill(from);
  }

  /**
   * Walks steps back.
   * @param values where the forward's buffers stand
   * @throws AbortError
   */
  async back(
    steps: readonly BackwardStep[],
    values: ReadonlyMap<string, Place>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { arena, pool } = this.host;
    this.values = values;
    this.records = new Records();
    for (const step of steps) this.step(step, this.into);
    const list = arena.alloc(this.records.bytes, "an op list");
    try {
      this.records.write(arena.memory, list);
      pool.word(CTL_OPS, list);
      pool.word(CTL_COUNT, this.records.count);
      pool.word(CTL_ROWS, this.N);
      await pool.run(signal);
    } finally {
      arena.release(list);
    }
  }

  /** Adds the vectors' gradients to where they go; the gradient by the call's vectors. */
  end(): Float32Array | undefined {
    for (const [vector, address] of this.flow.vectors) {
      const sum = this.into.vectors.get(vector)!; // only such vectors are taken
      const part = new Float32Array(this.host.arena.memory.buffer, address, vector.length);
      for (let i = 0; i < sum.length; i++) sum[i] += part[i];
    }
    const given = this.call.vectors?.into;
    return given === undefined
      ? undefined
      : this.host.read(this.flow.at(given), this.program.buffers[given], this.N);
  }

  release(): void {
    this.flow.release();
  }

  private step(step: BackwardStep, into: Gradients): void {
    const { op } = step;
    const { N } = this;
    const width = (name: string) => this.program.buffers[name];
    switch (op.op) {
      case "embed":
      case "positions": {
        const table = into.matrices.get(op.table);
        const [address, stride] = this.at(op.out);
        const embed = op.op === "embed";
        if (table)
          this.push(OPCODE.scatter, [
            this.own(table),
            embed ? this.flow.ids : this.flow.positions,
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
        this.push(OPCODE.rope, [
          ...this.at(op.buffer, op.column),
          op.heads,
          op.headDim,
          op.frequencies.length,
          op.layout === "interleaved" ? 1 : 0,
          this.flow.angles(op),
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
          this.flow.sequences,
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
    this.push(OPCODE.normMoments, [...from, this.flow.moments, ...shape, rms, f(op.eps)]);
    const dOut = this.at(op.out, op.column);
    const weight = op.weight && this.flow.vectors.get(op.weight);
    const bias = op.bias && this.flow.vectors.get(op.bias);
    const length = (op.weight ?? op.bias)?.length ?? 0;
    if (weight || bias)
      this.push(OPCODE.normVectors, [
        ...from,
        this.flow.moments,
        ...shape,
        ...dOut,
        weight ?? 0,
        bias ?? 0,
        length,
      ]);
    this.push(OPCODE.normInput, [
      ...from,
      this.flow.moments,
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
    const bias = op.bias && this.flow.vectors.get(op.bias);
    const dOut = [...this.at(op.out, op.outColumn), this.N];
    if (weight)
      this.push(OPCODE.transpose, [
        x.address,
        x.stride,
        this.flow.turned,
        this.flow.turnedStride,
        this.N,
        cols,
      ]);
    if (weight || bias)
      this.push(OPCODE.weightGradient, [
        weight ? this.own(weight) : 0,
        this.flow.turned,
        this.flow.turnedStride,
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

  private push(code: number, fields: Parameters<Records["push"]>[2]): void {
    this.records.push(code, true, fields);
  }

  private own(matrix: Matrix): number {
    return WasmMatrix.own(matrix, this.host.arena).descriptor;
  }

  private value(name: string): Place {
    return this.values.get(name)!; // the plan names only what its forward has
  }

  private at(name: string, column = 0): [number, number] {
    const { address, stride } = this.flow.at(name);
    return [address + column * 4, stride];
  }
}
