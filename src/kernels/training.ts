import type { Op, Program } from "./op.js";
import { checkProgram } from "./program.js";

/** One op of the way back: the op as it stands in the program, and where the forward kept what its backward reads. */
export interface BackwardStep {
  readonly op: Op;
  /** Buffer of the forward that holds the op's input (`in`, `buffer`, `qkv` or `gate`) as the op found it. */
  readonly input?: string;
  /** The same for a gate's `up`. */
  readonly up?: string;
}

/** A program made ready for training. */
export interface TrainingPlan {
  /** The program again, with buffers of their own for what the way back reads. */
  readonly forward: Program;
  /** In which buffer of `forward` each of the program's buffers ends. */
  readonly final: Readonly<Record<string, string>>;
  /** Last op first. Gradients have one buffer for each of the program's buffers, named as it. */
  readonly backward: readonly BackwardStep[];
  /** Buffers of `forward` that the way back reads. */
  readonly kept: readonly string[];
}

const plans = new WeakMap<Program, TrainingPlan>();

/**
 * Plans a program's training. Ops work in place; where one is about to change a buffer that an earlier op's backward
 * reads, it goes on in a buffer of its own. Everything else stays where it is. Planned once, then remembered.
 * @throws InputError as `checkProgram`
 */
export function trainingPlan(program: Program): TrainingPlan {
  let plan = plans.get(program);
  if (!plan) {
    checkProgram(program);
    plan = new Planner(program).plan();
    plans.set(program, plan);
  }
  return plan;
}

class Planner {
  private readonly buffers: Record<string, number> = {};
  private readonly ops: Op[] = [];
  private readonly backward: BackwardStep[] = [];
  /** Where each buffer's numbers stand now. */
  private readonly place = new Map<string, string>();
  private readonly kept = new Set<string>();

  constructor(private readonly program: Program) {
    for (const [name, width] of Object.entries(program.buffers)) {
      this.buffers[name] = width;
      this.place.set(name, name);
    }
  }

  plan(): TrainingPlan {
    for (const op of this.program.ops) this.op(op);
    const { cache, maxPositions } = this.program;
    return {
      forward: { buffers: this.buffers, ops: this.ops, cache, maxPositions },
      final: Object.fromEntries(this.place),
      backward: this.backward.reverse(),
      kept: [...this.kept],
    };
  }

  private op(op: Op): void {
    switch (op.op) {
      case "embed":
        this.backward.push({ op });
        this.ops.push({ ...op, out: this.replace(op.out) });
        break;
      case "positions":
        this.backward.push({ op });
        this.ops.push({ ...op, out: this.change(op.out) });
        break;
      case "norm": {
        const input = this.keep(op.in);
        this.backward.push({ op, input });
        const whole = op.column === 0 && op.columns === this.program.buffers[op.out];
        const out = whole ? this.replace(op.out) : this.change(op.out);
        this.ops.push({ ...op, in: input, out });
        break;
      }
      case "matmul": {
        const input = this.keep(op.in);
        this.backward.push({ op, input });
        const whole = !op.accumulate && op.weight.rows === this.program.buffers[op.out];
        this.ops.push({ ...op, in: input, out: whole ? this.replace(op.out) : this.change(op.out) });
        break;
      }
      case "rope":
      case "scale":
      case "dropout":
        this.backward.push({ op });
        this.ops.push({ ...op, buffer: this.change(op.buffer) });
        break;
      case "attention": {
        const input = this.keep(op.qkv);
        this.backward.push({ op, input });
        this.ops.push({ ...op, qkv: input, out: this.replace(op.out) });
        break;
      }
      case "act":
        this.backward.push({ op, input: this.keep(op.buffer) });
        this.ops.push({ ...op, buffer: this.change(op.buffer) });
        break;
      case "gate": {
        const input = this.keep(op.gate);
        const up = this.keep(op.up);
        this.backward.push({ op, input, up });
        this.ops.push({ ...op, gate: input, up, out: this.replace(op.out) });
        break;
      }
      case "add":
      case "copy": {
        if (op.op === "copy" && op.in === op.out) break;
        this.backward.push({ op });
        const from = this.at(op.in);
        const out = op.op === "add" ? this.change(op.out) : this.replace(op.out);
        this.ops.push({ ...op, in: from, out });
        break;
      }
    }
  }

  private at(name: string): string {
    return this.place.get(name)!; // checkProgram has seen every name
  }

  /** The buffer's numbers as they are now will be read on the way back. */
  private keep(name: string): string {
    const place = this.at(name);
    this.kept.add(place);
    return place;
  }

  /** Where an op that writes every column without reading may write. */
  private replace(name: string): string {
    const place = this.at(name);
    if (!this.kept.has(place)) return place;
    let number = 2;
    while (`${name} ${number}` in this.buffers) number++;
    const fresh = `${name} ${number}`;
    this.buffers[fresh] = this.program.buffers[name];
    this.place.set(name, fresh);
    return fresh;
  }

  /** Where an op that changes numbers, or writes a part of the columns, may do so. */
  private change(name: string): string {
    const from = this.at(name);
    const out = this.replace(name);
    if (out !== from) this.ops.push({ op: "copy", in: from, out });
    return out;
  }
}
