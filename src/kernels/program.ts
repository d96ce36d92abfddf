import { InputError } from "../errors.js";
import type { Matrix } from "./device.js";
import type { AttentionOp, DropoutOp, NormOp, Op, Program, RopeOp } from "./op.js";

/** What `checkProgram` found out about a program. */
export interface ProgramFacts {
  /** The tables of its `embed` ops: present when a run needs ids. An id must be a row of each. */
  readonly tables: readonly Matrix[];
  /** Buffers that are read before an op writes them: what `RunCall.vectors` must give. None when `tables` has any. */
  readonly inputs: readonly string[];
  /** Whether a recorded run drops numbers, and so needs to know which. */
  readonly drops: boolean;
  /** Buffers that an op reads or writes, and whether all of their columns are. */
  readonly touched: ReadonlyMap<string, boolean>;
}

const known = new WeakMap<Program, ProgramFacts>();

/**
 * Checks that a program's ops fit each other: buffers exist, widths match the weights, nothing is read that was never
 * written, weights that stand in the program are finite. A program is checked once and then remembered.
 * @throws InputError naming the op by its place and kind, the buffers, what was expected and what came
 */
export function checkProgram(program: Program): ProgramFacts {
  let facts = known.get(program);
  if (!facts) {
    facts = new Checker(program).facts();
    known.set(program, facts);
  }
  return facts;
}

/** One walk down the list, with a note of which columns of each buffer have been written so far. */
class Checker {
  private readonly written = new Map<string, Uint8Array>();
  private readonly inputs = new Set<string>();
  private readonly tables: Matrix[] = [];
  private readonly cached = new Set<number>();
  private readonly streams = new Set<number>();
  private readonly program: Program;
  private where = "";

  constructor(program: Program) {
    this.program = program;
  }

  facts(): ProgramFacts {
    const { buffers, maxPositions, ops, checkpoints = [] } = this.program;
    this.where = "program";
    for (const [index, at] of checkpoints.entries()) {
      this.whole(`checkpoint ${index}`, at, (checkpoints[index - 1] ?? 0) + 1);
      if (at >= ops.length)
        this.fail(`checkpoint ${index} is at op ${at}; the program has ${ops.length} ops`);
    }
    this.whole("maxPositions", maxPositions, 1);
    for (const [name, width] of Object.entries(buffers)) this.whole(`width of buffer "${name}"`, width, 1);
    for (const [index, op] of ops.entries()) {
      this.where = `op ${index} (${op.op})`;
      this.op(op);
    }
    const [input] = this.inputs;
    if (this.tables.length > 0 && input !== undefined)
      throw new InputError(
        `program: "${input}" is read before any op writes it, though the program begins with ids`,
      );
    if (this.inputs.size > 1)
      throw new InputError(
        `program: a call can fill one buffer, but these are read before any op writes them: ${[...this.inputs].join(", ")}`,
      );
    const touched = new Map([...this.written].map(([name, columns]) => [name, !columns.includes(0)]));
    return { tables: this.tables, inputs: [...this.inputs], drops: this.streams.size > 0, touched };
  }

  private op(op: Op): void {
    switch (op.op) {
      case "embed":
        this.equal(`columns of table "${op.table.name}"`, op.table.cols, this.width(op.out), op.out);
        this.finite("scale", op.scale);
        this.tables.push(op.table);
        this.write(op.out);
        break;
      case "positions": {
        this.equal(`columns of table "${op.table.name}"`, op.table.cols, this.width(op.out), op.out);
        this.whole("offset", op.offset, 0);
        const needed = this.program.maxPositions + op.offset;
        if (op.table.rows < needed)
          this.fail(
            `table "${op.table.name}" has ${op.table.rows} rows; ${this.program.maxPositions} positions from row ${op.offset} on need ${needed}`,
          );
        this.read(op.out);
        break;
      }
      case "norm":
        this.norm(op);
        break;
      case "matmul": {
        const { rows, cols, name } = op.weight;
        this.equal(`columns of weight "${name}"`, cols, this.width(op.in), op.in);
        this.distinct(op.in, op.out);
        this.vector(`bias of "${name}"`, op.bias, [rows]);
        this.range(op.out, op.outColumn, rows);
        this.read(op.in);
        if (op.accumulate) this.read(op.out, op.outColumn, rows);
        this.write(op.out, op.outColumn, rows);
        break;
      }
      case "rope":
        this.rope(op);
        break;
      case "attention":
        this.attention(op);
        break;
      case "act":
        this.read(op.buffer);
        break;
      case "scale":
        this.finite("by", op.by);
        this.read(op.buffer);
        break;
      case "gate":
        this.equal(`width of "${op.up}"`, this.width(op.up), this.width(op.gate), op.gate);
        this.equal(`width of "${op.out}"`, this.width(op.out), this.width(op.gate), op.gate);
        this.read(op.gate);
        this.read(op.up);
        this.write(op.out);
        break;
      case "add":
      case "copy":
        this.equal(`width of "${op.out}"`, this.width(op.out), this.width(op.in), op.in);
        if (op.op === "add") {
          this.read(op.in);
          this.read(op.out);
        } else this.copy(op.in, op.out);
        break;
      case "dropout":
        this.dropout(op);
        break;
      default:
        this.fail(`unknown op ${JSON.stringify((op as { op: unknown }).op)}`);
    }
  }

  private norm(op: NormOp): void {
    this.range(op.in, op.column, op.columns);
    this.range(op.out, op.column, op.columns);
    this.whole("group", op.group, 1);
    if (op.columns % op.group !== 0)
      this.fail(`${op.columns} columns are not a whole number of groups of ${op.group}`);
    if (!(op.eps >= 0 && op.eps < Infinity)) this.fail(`eps: expected a number from 0, got ${op.eps}`);
    this.vector("weight", op.weight, [op.group, op.columns]);
    this.vector("bias", op.bias, [op.group, op.columns]);
    if (op.weight && op.bias) this.equal("length of bias", op.bias.length, op.weight.length, "weight");
    this.read(op.in, op.column, op.columns);
    this.write(op.out, op.column, op.columns);
  }

  private rope(op: RopeOp): void {
    this.whole("heads", op.heads, 1);
    this.whole("headDim", op.headDim, 1);
    this.range(op.buffer, op.column, op.heads * op.headDim);
    if (2 * op.frequencies.length > op.headDim)
      this.fail(
        `${op.frequencies.length} frequencies turn ${2 * op.frequencies.length} columns; a head has ${op.headDim}`,
      );
    for (const frequency of op.frequencies) this.finite("frequency", frequency);
    this.finite("attentionFactor", op.attentionFactor);
    this.read(op.buffer, op.column, op.heads * op.headDim);
  }

  private attention(op: AttentionOp): void {
    const { heads, kvHeads, headDim, layer } = op;
    for (const [name, value] of Object.entries({ heads, kvHeads, headDim })) this.whole(name, value, 1);
    if (heads % kvHeads !== 0) this.fail(`${heads} heads cannot share ${kvHeads} key heads evenly`);
    const width = (heads + 2 * kvHeads) * headDim;
    this.equal(`width of "${op.qkv}"`, this.width(op.qkv), width, "queries, keys and values");
    this.equal(`width of "${op.out}"`, this.width(op.out), heads * headDim, "heads · headDim");
    this.distinct(op.qkv, op.out);
    const held = this.program.cache[layer];
    if (!held) this.fail(`layer ${layer}: the program's cache has ${this.program.cache.length} layers`);
    if (held.kvHeads !== kvHeads || held.headDim !== headDim)
      this.fail(
        `cache layer ${layer} holds ${held.kvHeads} heads of ${held.headDim}; the op has ${kvHeads} of ${headDim}`,
      );
    if (this.cached.has(layer)) this.fail(`cache layer ${layer} is written by an earlier op`);
    this.cached.add(layer);
    this.finite("scale", op.scale);
    if (op.softcap !== undefined && !(op.softcap > 0 && op.softcap < Infinity))
      this.fail(`softcap: expected a number above 0, got ${op.softcap}`);
    if (op.window !== undefined) this.whole("window", op.window, 1);
    this.read(op.qkv);
    this.write(op.out);
  }

  private dropout({ buffer, rate, stream }: DropoutOp): void {
    if (!(rate >= 0 && rate < 1)) this.fail(`rate: expected a number from 0 and below 1, got ${rate}`);
    this.whole("stream", stream, 0);
    if (this.streams.has(stream)) this.fail(`stream ${stream} is an earlier op's: both would drop alike`);
    this.streams.add(stream);
    this.read(buffer);
  }

  private fail(message: string): never {
    throw new InputError(`${this.where}: ${message}`);
  }

  private width(name: string): number {
    // hasOwn: a buffer named "constructor" must not find Object's.
    if (!Object.hasOwn(this.program.buffers, name))
      this.fail(`unknown buffer "${name}"; the program has ${Object.keys(this.program.buffers).join(", ")}`);
    return this.program.buffers[name];
  }

  private whole(what: string, value: number, least: number): void {
    if (!(Number.isSafeInteger(value) && value >= least))
      this.fail(`${what}: expected a whole number from ${least}, got ${value}`);
  }

  private finite(what: string, value: number): void {
    if (!Number.isFinite(value)) this.fail(`${what}: expected a finite number, got ${value}`);
  }

  private equal(what: string, got: number, expected: number, of: string): void {
    if (got !== expected) this.fail(`${what} is ${got}, expected ${expected} as "${of}" has`);
  }

  private distinct(from: string, out: string): void {
    if (from === out) this.fail(`"${out}" is both read and written; the op needs two buffers`);
  }

  private vector(what: string, data: Float32Array | undefined, lengths: readonly number[]): void {
    if (!data) return;
    if (!lengths.includes(data.length))
      this.fail(`length of ${what} is ${data.length}, expected ${[...new Set(lengths)].join(" or ")}`);
    const bad = data.findIndex((x) => !Number.isFinite(x));
    if (bad >= 0) this.fail(`${what} holds ${data[bad]} at ${bad}`);
  }

  /** Checks that columns [first, first + count) are in the buffer. */
  private range(name: string, first: number, count: number): void {
    const width = this.width(name);
    this.whole(`first column of "${name}"`, first, 0);
    this.whole(`columns of "${name}"`, count, 1);
    if (first + count > width)
      this.fail(`columns ${first} to ${first + count} of "${name}" are asked; it has ${width}`);
  }

  private read(name: string, first = 0, count = this.width(name)): void {
    const columns = this.written.get(name);
    if (!columns) {
      this.inputs.add(name);
      this.write(name, 0, this.width(name));
      return;
    }
    const gap = columns.subarray(first, first + count).indexOf(0);
    if (gap >= 0) this.fail(`reads column ${first + gap} of "${name}", which no op has written`);
  }

  /** A copy may be of a part: what was not written in `from` is not written in `to` either. */
  private copy(from: string, to: string): void {
    if (!this.written.has(from)) this.read(from);
    const columns = this.written.get(from);
    this.written.set(to, columns ? columns.slice() : new Uint8Array(this.width(to)).fill(1));
  }

  private write(name: string, first = 0, count = this.width(name)): void {
    let columns = this.written.get(name);
    if (!columns) {
      columns = new Uint8Array(this.width(name));
      this.written.set(name, columns);
    }
    columns.fill(1, first, first + count);
  }
}
