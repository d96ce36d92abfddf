import { InputError } from "../../errors.js";
import { withArrays } from "../arrays.js";
import { type Block, blocksOf, wholeProgram } from "../blocks.js";
import type { Program } from "../op.js";
import { checkBackward, checkRecord, type Gradients, type RecordCall, type Tape } from "../tape.js";
import { checkRun } from "../validate.js";
import { Forward } from "./forward.js";
import { type TapeHost, Walk } from "./walk.js";

/** The WebAssembly device's tape: the forward's buffers stay in memory until `free`, or those of one block at a time. */
export class WasmTape implements Tape {
  private freed = false;
  /** Calls of `backward` that read the forward's memory now. */
  private walking = 0;

  private constructor(
    private readonly host: TapeHost,
    private readonly blocks: readonly Block[],
    private readonly program: Program,
    private readonly call: RecordCall,
    private readonly forward: Forward,
  ) {}

  /** @throws InputError for a call that does not fit the program, or weights that are not float32 */
  static async record(host: TapeHost, program: Program, call: RecordCall): Promise<WasmTape> {
    checkRecord(program, call);
    for (const op of program.ops)
      if (op.op === "matmul" && op.weight.type !== "f32")
        throw new InputError(
          `record: ${op.weight.name}: expected float32 weights to differentiate, got ${op.weight.type}; load them as float32`,
        );
    const blocks = call.recompute ? blocksOf(program) : wholeProgram(program);
    check(host, blocks[0].plan.forward, call);
    // Blocks and the way back read them again: they are the call's as it was.
    const { ids, vectors, lengths, dropout } = call;
    const kept: RecordCall = {
      lengths: [...lengths],
      ids: ids?.slice(),
      // Without recompute only the name is read again.
      vectors: vectors && (call.recompute ? { ...vectors, data: vectors.data.slice() } : vectors),
      dropout: dropout && { ...dropout },
    };
    const forward = new Forward(host, program, blocks, kept);
    try {
      await forward.run(call.signal);
      return new WasmTape(host, blocks, program, kept, forward);
    } catch (error) {
      forward.free();
      throw error;
    }
  }

  get bytes(): number {
    return this.forward.bytes;
  }

  output(buffer: string): Float32Array {
    this.check();
    return this.forward.output(buffer);
  }

  backward(
    from: { readonly buffer: string; readonly gradient: Float32Array },
    into: Gradients,
    signal?: AbortSignal,
  ): Promise<Float32Array | undefined> {
    const task = async () => {
      this.check();
      const rows = this.call.lengths.reduce((sum, length) => sum + length, 0);
      checkBackward(this.program, rows, from, into);
      const walk = new Walk(this.host, this.program, this.call, rows, into);
      this.walking++;
      try {
        walk.begin(from);
        for (const [index, { plan }] of [...this.blocks.entries()].reverse()) {
          const values = await this.forward.enter(index, signal);
          await walk.back(plan.backward, values, signal);
        }
        return walk.end();
      } finally {
        walk.release();
        this.walking--;
        this.settle();
      }
    };
    return withArrays({ gradient: from.gradient }, () => this.host.enqueue(signal, task));
  }

  free(): void {
    this.freed = true;
    this.settle();
  }

  /** Lets go of the memory when nobody may read it any more. */
  private settle(): void {
    if (this.freed && this.walking === 0) this.forward.free();
  }

  private check(): void {
    if (this.freed) throw new Error("this tape was freed");
  }
}

/** Checks a call by the part of the program that its ids or vectors enter. @throws InputError */
function check(host: TapeHost, program: Program, { lengths, ids, vectors }: RecordCall): void {
  const segments = lengths.map((rows) => ({ cache: host.cache(program), rows }));
  try {
    checkRun(program, { segments, ids, vectors, outputs: [] });
  } finally {
    for (const { cache } of segments) cache.free();
  }
}
