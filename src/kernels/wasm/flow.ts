import type { Op, Program, RopeOp } from "../op.js";
import type { Gradients, RecordCall } from "../tape.js";
import { fillRope, type Place, padded } from "./body.js";
import type { TapeHost } from "./walk.js";

/** The memory of one walk back: a gradient for each buffer of the program, and what its steps share. */
export class Flow {
  /** Gradients of vectors, by parameter. */
  readonly vectors = new Map<Float32Array, number>();
  moments = 0;
  /** Activations with rows and columns changed about. */
  turned = 0;
  positions = 0;
  ids = 0;
  sequences = 0;
  private readonly held: number[] = [];
  private readonly gradients = new Map<string, Place>();
  private readonly tables: { op: RopeOp; address: number }[] = [];

  constructor(
    private readonly host: TapeHost,
    private readonly program: Program,
    private readonly call: RecordCall,
    private readonly N: number,
  ) {}

  /** Takes all memory that steps need. @throws InputError when it does not fit */
  take(into: Gradients): void {
    const { N, program } = this;
    for (const [name, width] of Object.entries(program.buffers)) {
      const stride = padded(width) * 4;
      this.gradients.set(name, { address: this.alloc(N * stride, "gradients"), stride });
    }
    let groups = 0;
    let cols = 0;
    for (const op of program.ops) {
      if (op.op === "norm") groups = Math.max(groups, op.columns / op.group);
      if (op.op === "matmul") cols = Math.max(cols, op.weight.cols);
      if (op.op === "rope")
        this.tables.push({ op, address: this.alloc(N * op.frequencies.length * 8, "a table of angles") });
      for (const vector of vectorsOf(op))
        if (into.vectors.has(vector) && !this.vectors.has(vector))
          this.vectors.set(vector, this.alloc(padded(vector.length) * 4, "a vector's gradient"));
    }
    this.moments = this.alloc(N * groups * 8, "moments");
    this.turned = this.alloc(padded(cols) * this.turnedStride, "turned activations");
    this.positions = this.alloc(N * 4, "positions");
    this.ids = this.alloc(N * 4, "ids");
    this.sequences = this.alloc(this.call.lengths.length * 8, "sequences");
    // For each key that a row sees, three numbers of each of the four rows that go together.
    this.host.scratch(128 + 48 * (Math.max(...this.call.lengths) + 64));
  }

  /** Gradients are zero but for one; tables are the call's. */
  fill(from: { readonly buffer: string; readonly gradient: Float32Array }): void {
    // Views only now: a grown memory has a new buffer.
    const { buffer } = this.host.arena.memory;
    for (const [name, { address, stride }] of this.gradients) {
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
    this.fillTables(buffer);
  }

  /** The gradient of a buffer. */
  at(name: string): Place {
    return this.gradients.get(name)!; // one for each buffer of the program
  }

  /** cos and sin of a rotation's way back. */
  angles(op: RopeOp): number {
    return this.tables.find((table) => table.op === op)!.address; // one for each of the program's
  }

  /** Bytes from column to column of turned activations; a little more than a power of two, which caches like. */
  get turnedStride(): number {
    return (padded(this.N) + 16) * 4;
  }

  release(): void {
    for (const address of this.held) this.host.arena.release(address);
  }

  private fillTables(buffer: ArrayBufferLike): void {
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

  private alloc(bytes: number, what: string): number {
    const address = this.host.arena.alloc(bytes, what);
    this.held.push(address);
    return address;
  }
}

function vectorsOf(op: Op): Float32Array[] {
  if (op.op === "norm") return [op.weight, op.bias].filter((v) => v !== undefined);
  return op.op === "matmul" && op.bias ? [op.bias] : [];
}
