import { DeviceArrays, withArrays } from "../arrays.js";
import type {
  Device,
  DeviceArray,
  HeadAnswer,
  HeadQuery,
  HeadWeights,
  KvCache,
  Matrix,
  MatrixSource,
  RunCall,
} from "../device.js";
import { type LossAnswer, type LossQuery, lossArrays } from "../loss.js";
import type { Program } from "../op.js";
import { checkUpdates, type MatrixUpdate, statesOf } from "../optimize.js";
import { checkProgram } from "../program.js";
import type { RecordCall, Tape } from "../tape.js";
import { inTurn } from "../turn.js";
import { ask } from "./ask.js";
import { Breather } from "./breather.js";
import { cacheWidths, ReferenceCache } from "./cache.js";
import { loss } from "./loss.js";
import { type Ledger, plain, ReferenceMatrix } from "./matrix.js";
import { runProgram } from "./run.js";
import { ReferenceTape, type TapeHost } from "./tape.js";
import { applyUpdate } from "./update.js";

/**
 * The plain device: every op as its definition says it, sums in float64, weights widened to float32, one thread. It is
 * what fast devices are held to, and it runs where there is no WebAssembly SIMD. It works on the caller's thread and
 * yields to the event loop every few milliseconds. Arrays given to a call must stay unchanged until it settles.
 */
export class ReferenceDevice implements Device {
  readonly kind = "reference" as const;
  readonly threads = 1;
  readonly description: string;
  private readonly ledger: Ledger = { bytes: 0, holders: new Set() };
  private readonly arrays = new DeviceArrays({
    take: (length) => {
      const data = new Float32Array(length);
      this.ledger.bytes += data.byteLength;
      return data;
    },
    giveBack: ({ byteLength }) => {
      this.ledger.bytes -= byteLength;
    },
  });
  private queue: Promise<unknown> = Promise.resolve();
  private closed = false;

  /** @param why it runs where nobody has asked for it; part of the description */
  constructor(why?: string) {
    this.description = `plain TypeScript reference, 1 thread: exact and slow${why === undefined ? "" : `; ${why}`}`;
  }

  get memory(): number {
    return this.ledger.bytes;
  }

  matrix(source: MatrixSource, signal?: AbortSignal): Promise<Matrix> {
    return this.enqueue(signal, (breather) =>
      ReferenceMatrix.load(source, this.ledger, breather, () => this.open()),
    );
  }

  array(length: number): DeviceArray {
    this.open();
    return this.arrays.make(length);
  }

  cache(program: Program): KvCache {
    this.open();
    checkProgram(program);
    return new ReferenceCache(cacheWidths(program.cache), this.ledger);
  }

  run(program: Program, call: RunCall): Promise<Float32Array[]> {
    return withArrays({ vectors: call.vectors?.data }, () =>
      this.enqueue(call.signal, (breather) => runProgram(program, call, breather, this.ledger)),
    );
  }

  ask(head: HeadWeights, hidden: Float32Array, query: HeadQuery, signal?: AbortSignal): Promise<HeadAnswer> {
    return withArrays({ hidden }, () =>
      this.enqueue(signal, (breather) => ask(head, plain(head.matrix), hidden, query, breather)),
    );
  }

  loss(head: HeadWeights, hidden: Float32Array, query: LossQuery, signal?: AbortSignal): Promise<LossAnswer> {
    return withArrays(lossArrays(hidden, query), () =>
      this.enqueue(signal, (breather) => loss(head, hidden, query, breather)),
    );
  }

  record(program: Program, call: RecordCall): Promise<Tape> {
    const host: TapeHost = {
      cache: (plan) => this.cache(plan),
      run: (plan, run, draw) =>
        this.enqueue(run.signal, (breather) => runProgram(plan, run, breather, this.ledger, draw)),
      enqueue: (signal, task) => this.enqueue(signal, task),
    };
    return withArrays({ vectors: call.vectors?.data }, () => ReferenceTape.record(host, program, call));
  }

  update(updates: readonly MatrixUpdate[]): Promise<void> {
    return this.enqueue(undefined, async (breather) => {
      checkUpdates(updates);
      for (const update of updates)
        for (const matrix of [update.value, update.gradient, ...statesOf(update)]) plain(matrix);
      for (const update of updates) {
        applyUpdate(update);
        await breather.pause();
      }
    });
  }

  squares(matrices: readonly Matrix[]): Promise<Float64Array> {
    return this.enqueue(undefined, async () =>
      Float64Array.from(matrices, (matrix) => plain(matrix).reduce((sum, x) => sum + x * x, 0)),
    );
  }

  zero(matrices: readonly Matrix[]): Promise<void> {
    return this.enqueue(undefined, async () => {
      for (const matrix of matrices) plain(matrix).fill(0);
    });
  }

  /** Vectors are read where they stand. */
  async changed(): Promise<void> {}

  /** Ends what runs and what waits (both reject) and frees every matrix and cache. Closing twice is fine. */
  async close(): Promise<void> {
    this.closed = true;
    await this.queue;
    for (const holder of this.ledger.holders) holder.free();
  }

  /** Throws when the device was closed. */
  private open(): void {
    if (this.closed) throw new Error("this device is closed; open another");
  }

  /** Runs `task` after all earlier ones. One that still waits when its signal fires rejects at once. */
  private async enqueue<T>(
    signal: AbortSignal | undefined,
    task: (breather: Breather) => Promise<T>,
  ): Promise<T> {
    this.open();
    const result = inTurn(this.queue, signal, () => task(new Breather(signal, () => this.open())));
    this.queue = Promise.allSettled([this.queue, result]);
    return result;
  }
}
