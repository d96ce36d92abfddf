import type { DropoutOp, Op, Program } from "../op.js";
import { dropoutKey, dropoutScale, dropoutThreshold } from "../reference/dropout.js";
import type { DropoutDraw } from "../tape.js";
import { ACTIVATION, OPCODE, quantBytes } from "./abi.js";
import type { WasmMatrix } from "./matrix.js";
import { f, type Records } from "./records.js";

/** Where a call's data stand in memory. */
export interface Placement {
  /** Address and row stride (bytes) of each buffer. */
  readonly buffers: ReadonlyMap<string, { address: number; stride: number }>;
  /** Room for quantised activations of the widest input. */
  readonly quant: number;
  readonly ids: number;
  readonly positions: number;
  /** cos and sin of each row, for a table of frequencies. */
  rope(frequencies: Float64Array, factor: number): number;
  /** Address of a float32 vector that a program holds. */
  vector(data: Float32Array | undefined): number;
  readonly cacheOffsets: readonly number[];
  readonly pairs: number;
  readonly pairCount: number;
  /** Rows of the call. */
  readonly rows: number;
  /** The masks of `dropout` ops; without it nothing is dropped. */
  readonly draw: DropoutDraw | undefined;
}

/**
 * How an op's work is split between threads: by rows, by columns (panels of the given count, from a column on), or otherwise. Two ops
 * that follow each other with the same split need no barrier: a thread reads only what it wrote.
 */
type Split = "rows" | `columns ${number} from ${number}` | "tasks";

/** Turns a program, whose matrices are the device's own, into op records. */
export function lower(program: Program, place: Placement, out: Records): void {
  let last: Split | undefined;
  // The buffer whose quantised rows stand in `quant`, while it has not been written since.
  let quantised: string | undefined;
  const at = (name: string, column = 0) => (place.buffers.get(name)?.address ?? 0) + column * 4;
  const stride = (name: string) => place.buffers.get(name)?.stride ?? 0;
  const push = (split: Split, code: number, fields: Parameters<Records["push"]>[2]) => {
    if (last !== undefined && (last !== split || split === "tasks")) out.sync();
    out.push(code, false, fields);
    last = split;
  };
  const wrote = (name: string) => {
    if (quantised === name) quantised = undefined;
  };
  for (const op of program.ops) {
    switch (op.op) {
      case "embed":
        push("rows", OPCODE.embed, [matrix(op.table), place.ids, at(op.out), stride(op.out), f(op.scale)]);
        wrote(op.out);
        break;
      case "positions":
        push("rows", OPCODE.positions, [
          matrix(op.table),
          place.positions,
          at(op.out),
          stride(op.out),
          f(1),
          0,
          op.offset,
        ]);
        wrote(op.out);
        break;
      case "norm":
        push("rows", OPCODE.norm, [
          at(op.in, op.column),
          stride(op.in),
          at(op.out, op.column),
          stride(op.out),
          op.columns,
          op.group,
          op.kind === "rms" ? 1 : 0,
          f(op.eps),
          place.vector(op.weight),
          place.vector(op.bias),
          (op.weight ?? op.bias)?.length === op.group ? 1 : 0,
        ]);
        wrote(op.out);
        break;
      case "matmul": {
        const weight = op.weight as WasmMatrix;
        if (weight.integer && quantised !== op.in) {
          push("rows", OPCODE.quant, [at(op.in), stride(op.in), place.quant, weight.cols]);
          quantised = op.in;
        }
        const input = weight.integer ? [place.quant, quantBytes(weight.cols)] : [at(op.in), stride(op.in)];
        const split: Split = `columns ${Math.ceil(weight.rows / 16)} from ${op.outColumn}`;
        const fields = [
          weight.descriptor,
          ...input,
          at(op.out, op.outColumn),
          stride(op.out),
          place.vector(op.bias),
          op.accumulate ? 1 : 0,
        ];
        // Products of one input are independent of each other: only what is not a product before them needs a wait.
        if (last !== "rows" && independent(program.ops, op)) {
          out.push(OPCODE.matmul, false, fields);
          last = split === last ? last : "tasks";
        } else {
          // Every thread reads whole rows, of which the others wrote parts, whatever the split before.
          if (last !== undefined) out.sync();
          out.push(OPCODE.matmul, false, fields);
          last = split;
        }
        wrote(op.out);
        break;
      }
      case "rope":
        push("rows", OPCODE.rope, [
          at(op.buffer, op.column),
          stride(op.buffer),
          op.heads,
          op.headDim,
          op.frequencies.length,
          op.layout === "interleaved" ? 1 : 0,
          place.rope(op.frequencies, op.attentionFactor),
        ]);
        wrote(op.buffer);
        break;
      case "attention": {
        const k = op.heads * op.headDim;
        const v = k + op.kvHeads * op.headDim;
        const offset = place.cacheOffsets[op.layer];
        push("rows", OPCODE.store, [
          at(op.qkv, k),
          at(op.qkv, v),
          stride(op.qkv),
          op.kvHeads,
          op.headDim,
          offset,
        ]);
        push("tasks", OPCODE.attention, [
          at(op.qkv),
          stride(op.qkv),
          at(op.out),
          stride(op.out),
          op.heads,
          op.kvHeads,
          op.headDim,
          offset,
          f(op.scale),
          f(op.softcap ?? 0),
          op.window ?? 0,
          place.pairs,
          place.pairCount,
        ]);
        wrote(op.out);
        break;
      }
      case "dropout":
        if (!place.draw) break;
        push(
          `columns ${panelsOf(program, op.buffer)} from 0`,
          OPCODE.dropout,
          dropoutFields(op, program, place.draw, [at(op.buffer), stride(op.buffer)], place.rows),
        );
        wrote(op.buffer);
        break;
      default:
        lowerPointwise(op, program, at, stride, push);
        wrote(op.op === "act" || op.op === "scale" ? op.buffer : op.out);
    }
  }
  out.sync();
}

function matrix(m: unknown): number {
  return (m as WasmMatrix).descriptor;
}

/** Whether this product follows another of the same input directly and writes other columns or another buffer. */
function independent(ops: readonly Op[], op: Op): boolean {
  const before = ops[ops.indexOf(op) - 1];
  if (before?.op !== "matmul" || op.op !== "matmul" || before.in !== op.in) return false;
  if (before.out === op.in) return false;
  return before.out !== op.out || before.outColumn + before.weight.rows <= op.outColumn;
}

/** The words of a `dropout` record, on the way there or back. */
export function dropoutFields(
  { buffer, rate, stream }: DropoutOp,
  program: Program,
  draw: DropoutDraw,
  [address, stride]: readonly [address: number, stride: number],
  rows: number,
): Parameters<Records["push"]>[2] {
  return [
    address,
    stride,
    rows,
    panelsOf(program, buffer),
    ...dropoutKey(draw, stream),
    dropoutThreshold(rate),
    f(dropoutScale(rate)),
  ];
}

function panelsOf(program: Program, buffer: string): number {
  return Math.ceil(program.buffers[buffer] / 16);
}

function lowerPointwise(
  op: Exclude<Op, { op: "embed" | "positions" | "norm" | "matmul" | "rope" | "attention" | "dropout" }>,
  program: Program,
  at: (name: string) => number,
  stride: (name: string) => number,
  push: (split: Split, code: number, fields: Parameters<Records["push"]>[2]) => void,
): void {
  const out = op.op === "act" || op.op === "scale" ? op.buffer : op.out;
  const panels = panelsOf(program, out);
  const a = op.op === "gate" ? op.gate : op.op === "act" || op.op === "scale" ? op.buffer : op.in;
  const b = op.op === "gate" ? op.up : out;
  push(`columns ${panels} from 0`, OPCODE[op.op], [
    at(a),
    at(b),
    at(out),
    stride(a),
    stride(b),
    stride(out),
    panels,
    op.op === "gate" || op.op === "act" ? ACTIVATION[op.kind] : 0,
    f(op.op === "scale" ? op.by : 1),
  ]);
}
