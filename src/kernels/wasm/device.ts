import { type ArrayMemory, DeviceArrays, withArrays } from "../arrays.js";
import type {
  Device,
  DeviceArray,
  HeadAnswer,
  HeadQuery,
  HeadWeights,
  Matrix,
  MatrixSource,
  RunCall,
} from "../device.js";
import { type LossAnswer, type LossQuery, lossArrays } from "../loss.js";
import type { Program } from "../op.js";
import type { MatrixUpdate } from "../optimize.js";
import type { RecordCall, Tape } from "../tape.js";
import { inTurn } from "../turn.js";
import { checkAsk, checkRun } from "../validate.js";
import { checkLoss } from "../validate-loss.js";
import { CTL_COUNT, CTL_OPS, CTL_ROWS, CTL_SCRATCH, CTL_SCRATCH_SIZE, OPCODE, SCRATCH_BYTES } from "./abi.js";
import { Arena } from "./arena.js";
import { BodyRunner, padded } from "./body.js";
import { WasmCache } from "./cache.js";
import { HeadRunner } from "./head.js";
import { LossRunner } from "./loss.js";
import { WasmMatrix } from "./matrix.js";
import { OptimizerRunner } from "./optimize.js";
import { Pool } from "./pool.js";
import { f, Records } from "./records.js";
import { WasmTape } from "./tape.js";
import { upload } from "./upload.js";
import type { TapeHost } from "./walk.js";

/** The WebAssembly device: SIMD kernels, threads over one shared memory, in workers. */
export class WasmDevice implements Device {
  readonly kind = "wasm" as const;
  readonly threads: number;
  readonly description: string;
  private readonly pool: Pool;
  private readonly arena: Arena;
  private readonly bodies: BodyRunner;
  private readonly host: TapeHost;
  private readonly heads: HeadRunner;
  private readonly losses: LossRunner;
  private readonly optimizers: OptimizerRunner;
  private readonly arrays: DeviceArrays;
  private queue: Promise<unknown> = Promise.resolve();
  private readonly vectors = new WeakMap<Float32Array, number>();
  /** Gives back what a vector takes here when nobody holds it any more: models come and go on one device. */
  private readonly collected = new FinalizationRegistry<number>((address) => this.arena.release(address));
  private scratchBytes = 0;

  private constructor(pool: Pool, description: string) {
    this.pool = pool;
    this.arena = new Arena(pool.memory);
    this.threads = pool.threads;
    this.description = description;
    const host = {
      vector: (data: Float32Array | undefined) => this.vector(data),
      scratch: (bytes: number) => this.reserveScratch(bytes),
    };
    this.bodies = new BodyRunner(pool, this.arena, host);
    this.host = {
      ...host,
      pool,
      arena: this.arena,
      bodies: this.bodies,
      enqueue: (signal, task) => this.enqueue(signal, task),
      cache: (program) => this.cache(program),
      read: ({ address, stride }, width, rows) =>
        readRows(
          pool.memory,
          address,
          stride,
          width,
          Array.from({ length: rows }, (_, n) => n),
        ),
    };
    this.heads = new HeadRunner(pool, this.arena, (data) => this.vector(data));
    this.arrays = new DeviceArrays(pool.shared ? arrayMemory(this.arena) : ORDINARY);
    const place = (view: Float32Array) => (pool.shared && this.arrays.has(view) ? view.byteOffset : 0);
    this.losses = new LossRunner(pool, this.arena, (data) => this.vector(data), place);
    this.optimizers = new OptimizerRunner(pool, this.arena);
    this.reserveScratch(SCRATCH_BYTES);
  }

  /**
   * Starts the workers.
   * @param threads how many threads; 0 runs on the caller's thread, without shared memory
   */
  static async start(threads: number, description: string): Promise<WasmDevice> {
    return new WasmDevice(await Pool.start(threads), description);
  }

  get memory(): number {
    return this.arena.used;
  }

  matrix(source: MatrixSource, signal?: AbortSignal): Promise<Matrix> {
    return this.enqueue(signal, async () => {
      const matrix = new WasmMatrix(this.arena, source, (m, ids) => this.gather(m, ids));
      try {
        await upload(this.pool, this.arena, matrix, source, signal);
      } catch (error) {
        matrix.free();
        throw error;
      }
      return matrix;
    });
  }

  array(length: number): DeviceArray {
    this.pool.check();
    return this.arrays.make(length);
  }

  cache(program: Program): WasmCache {
    return new WasmCache(this.arena, this.bodies.layout(program).bytes);
  }

  run(program: Program, call: RunCall): Promise<Float32Array[]> {
    const views = { vectors: call.vectors?.data };
    return withArrays(views, () => this.enqueue(call.signal, () => this.runNow(program, call)));
  }

  ask(head: HeadWeights, hidden: Float32Array, query: HeadQuery, signal?: AbortSignal): Promise<HeadAnswer> {
    const task = async () => {
      const { N, D } = checkAsk(head, hidden, query);
      WasmMatrix.own(head.matrix, this.arena);
      return this.heads.ask(head, hidden, N, D, query, signal);
    };
    return withArrays({ hidden }, () => this.enqueue(signal, task));
  }

  loss(head: HeadWeights, hidden: Float32Array, query: LossQuery, signal?: AbortSignal): Promise<LossAnswer> {
    const task = async () => {
      const { N } = checkLoss(head, hidden, query);
      for (const matrix of [head.matrix, query.teacher?.head.matrix, query.gradients.weight])
        if (matrix) WasmMatrix.own(matrix, this.arena);
      return this.losses.loss(head, hidden, N, query, signal);
    };
    return withArrays(lossArrays(hidden, query), () => this.enqueue(signal, task));
  }

  record(program: Program, call: RecordCall): Promise<Tape> {
    const views = { vectors: call.vectors?.data };
    return withArrays(views, () =>
      this.enqueue(call.signal, () => WasmTape.record(this.host, program, call)),
    );
  }

  update(updates: readonly MatrixUpdate[]): Promise<void> {
    return this.enqueue(undefined, () => this.optimizers.update(updates));
  }

  squares(matrices: readonly Matrix[]): Promise<Float64Array> {
    return this.enqueue(undefined, () => this.optimizers.squares(matrices));
  }

  zero(matrices: readonly Matrix[]): Promise<void> {
    return this.enqueue(undefined, () => this.optimizers.zero(matrices));
  }

  changed(vectors: readonly Float32Array[]): Promise<void> {
    return this.enqueue(undefined, async () => {
      for (const vector of vectors) {
        const address = this.vectors.get(vector);
        if (address !== undefined)
          new Float32Array(this.pool.memory.buffer, address, vector.length).set(vector);
      }
    });
  }

  async close(): Promise<void> {
    await this.pool.close();
  }

  /** Runs `task` after all earlier ones. One that still waits when its signal fires rejects at once. */
  private enqueue<T>(signal: AbortSignal | undefined, task: () => Promise<T>): Promise<T> {
    const result = inTurn(this.queue, signal, () => {
      this.pool.check();
      return task();
    });
    this.queue = Promise.allSettled([this.queue, result]);
    return result;
  }

  /** The address of a float32 vector on the device, padded with zeros to whole vectors; uploaded at first use. */
  private vector(data: Float32Array | undefined): number {
    if (!data) return 0;
    let address = this.vectors.get(data);
    if (address === undefined) {
      address = this.arena.alloc(padded(data.length) * 4, "a vector");
      const view = new Float32Array(this.pool.memory.buffer, address, padded(data.length));
      view.fill(0);
      view.set(data);
      this.vectors.set(data, address);
      this.collected.register(data, address);
    }
    return address;
  }

  private reserveScratch(bytes: number): void {
    if (bytes <= this.scratchBytes) return;
    const size = Math.ceil(bytes / 4096) * 4096;
    // The old one is let go only when there is a new one.
    const address = this.arena.alloc(size * this.threads, "the threads' private memory");
    const old = this.pool.read(CTL_SCRATCH);
    if (old) this.arena.release(old);
    this.scratchBytes = size;
    this.pool.word(CTL_SCRATCH, address);
    // Slices that are done one after the other have one private memory.
    this.pool.word(CTL_SCRATCH_SIZE, this.pool.shared ? size : 0);
  }

  private gather(matrix: WasmMatrix, ids: Int32Array): Promise<Float32Array> {
    return this.enqueue(undefined, async () => {
      matrix.check();
      if (ids.length === 0) return new Float32Array(0);
      const stride = padded(matrix.cols) * 4;
      const out = this.arena.alloc(ids.length * stride, "gathered rows");
      const input = this.arena.alloc(ids.length * 4, "row ids");
      const list = this.arena.alloc(128, "an op list");
      try {
        const buffer = this.pool.memory.buffer;
        new Int32Array(buffer, input, ids.length).set(ids);
        const records = new Records();
        records.push(OPCODE.embed, true, [matrix.descriptor, input, out, stride, f(1)]);
        records.write(this.pool.memory, list);
        this.pool.word(CTL_OPS, list);
        this.pool.word(CTL_COUNT, 1);
        this.pool.word(CTL_ROWS, ids.length);
        await this.pool.run();
        return readRows(this.pool.memory, out, stride, matrix.cols, Array.from(ids.keys()));
      } finally {
        for (const address of [out, input, list]) this.arena.release(address);
      }
    });
  }

  private async runNow(program: Program, call: RunCall): Promise<Float32Array[]> {
    const { N } = checkRun(program, call);
    if (N === 0) return call.outputs.map(() => new Float32Array(0));
    const places = await this.bodies.launch(program, call);
    return call.outputs.map(({ buffer, rows }) => {
      const place = places.get(buffer);
      if (!place) throw new Error(`the program has no buffer "${buffer}"`);
      const wanted = rows ? Array.from(rows) : Array.from({ length: N }, (_, n) => n);
      return readRows(this.pool.memory, place.address, place.stride, program.buffers[buffer], wanted);
    });
  }
}

/** Arrays in the kernels' memory. */
function arrayMemory(arena: Arena): ArrayMemory {
  return {
    take(length) {
      const at = arena.alloc(length * 4, "an array");
      return new Float32Array(arena.memory.buffer, at, length).fill(0);
    },
    giveBack: ({ byteOffset }) => arena.release(byteOffset),
  };
}

/** Arrays where memory is not shared, so that its growth would end their views. */
const ORDINARY: ArrayMemory = { take: (length) => new Float32Array(length), giveBack() {} };

function readRows(
  memory: WebAssembly.Memory,
  at: number,
  stride: number,
  width: number,
  rows: number[],
): Float32Array {
  const out = new Float32Array(rows.length * width);
  rows.forEach((n, i) => {
    out.set(new Float32Array(memory.buffer, at + n * stride, width), i * width);
  });
  return out;
}
