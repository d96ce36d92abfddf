import { InputError } from "../../errors.js";
import type { Program } from "../op.js";
import { checkBackward, checkRecord, type Gradients, type RecordCall, type Tape } from "../tape.js";
import { type TrainingPlan, trainingPlan } from "../training.js";
import { checkRun } from "../validate.js";
import type { Place } from "./body.js";
import { type TapeHost, Walk } from "./walk.js";

/** The WebAssembly device's tape: the forward's buffers stay in memory until `free`. */
export class WasmTape implements Tape {
  private freed = false;

  private constructor(
    private readonly host: TapeHost,
    private readonly plan: TrainingPlan,
    private readonly program: Program,
    private readonly call: RecordCall,
    private readonly values: ReadonlyMap<string, Place>,
    private readonly space: number,
  ) {}

  /** @throws InputError for a call that does not fit the program, or weights that are not float32 */
  static async record(host: TapeHost, program: Program, call: RecordCall): Promise<WasmTape> {
    checkRecord(program, call);
    const plan = trainingPlan(program);
    const segments = call.lengths.map((rows) => ({ cache: host.cache(plan.forward), rows }));
    const space = { address: 0, bytes: 0 };
    try {
      for (const op of program.ops)
        if (op.op === "matmul" && op.weight.type !== "f32")
          throw new InputError(
            `record: ${op.weight.name}: expected float32 weights to differentiate, got ${op.weight.type}; load them as float32`,
          );
      const { ids, vectors, dropout, signal } = call;
      const run = { segments, ids, vectors, signal, outputs: [] };
      const { N } = checkRun(plan.forward, run);
      if (N === 0) throw new InputError("record: expected at least one row, got none");
      const values = await host.bodies.launch(plan.forward, run, space, dropout);
      // The way back reads them again: they are the call's as it was.
      const kept = {
        ...call,
        ids: ids?.slice(),
        lengths: [...call.lengths],
        dropout: dropout && { ...dropout },
      };
      return new WasmTape(host, plan, program, kept, values, space.address);
    } catch (error) {
      if (space.address) host.arena.release(space.address);
      throw error;
    } finally {
      for (const { cache } of segments) cache.free();
    }
  }

  private get rows(): number {
    return this.call.lengths.reduce((sum, rows) => sum + rows, 0);
  }

  output(buffer: string): Float32Array {
    this.check();
    return this.host.read(this.value(this.plan.final[buffer]), this.program.buffers[buffer], this.rows);
  }

  backward(
    from: { readonly buffer: string; readonly gradient: Float32Array },
    into: Gradients,
    signal?: AbortSignal,
  ): Promise<Float32Array | undefined> {
    return this.host.enqueue(async () => {
      this.check();
      checkBackward(this.program, this.rows, from, into);
      const walk = new Walk(this.host, this.plan, this.program, this.call, this.rows, (name) =>
        this.value(name),
      );
      try {
        return await walk.run(from, into, signal);
      } finally {
        walk.release();
      }
    });
  }

  free(): void {
    if (this.freed) return;
    this.freed = true;
    this.host.arena.release(this.space);
  }

  private check(): void {
    if (this.freed) throw new Error("this tape was freed");
  }

  private value(name: string): Place {
    return this.values.get(name)!; // the plan names only what its forward has
  }
}
