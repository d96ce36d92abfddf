import { AbortError } from "../../errors.js";
import { CTL, CTL_ABORT, CTL_COUNT, CTL_THREADS } from "./abi.js";
import { SHARED_WASM, UNSHARED_WASM } from "./binary.gen.js";

/** What the kernels export. */
interface Kernels {
  run(): void;
  pool(tid: number): void;
  slice(op: number, slice: number, slices: number): void;
}

/**
 * The worker's whole program, kept as text so that it starts alike in Node, in browsers and behind bundlers, without
 * a file of its own to find. Thread 0 answers each message by walking the op list; the others never leave `pool`.
 */
const WORKER = `
const start = (port, { module, memory, tid }) => {
  const kernels = new WebAssembly.Instance(module, { env: { memory } }).exports;
  if (tid > 0) { port.postMessage("ready"); kernels.pool(tid); return; }
  port.onmessage = () => {
    let error;
    try { kernels.run(); } catch (e) { error = String(e && e.message || e); }
    port.postMessage({ error });
  };
  port.postMessage("ready");
};
if (typeof process === "object" && process.versions && process.versions.node) {
  const { parentPort, workerData } = require("node:worker_threads");
  start({ postMessage: (m) => parentPort.postMessage(m), set onmessage(f) { parentPort.on("message", f); } }, workerData);
} else {
  self.onmessage = (event) => start(self, event.data);
}
`;

/** One worker, the same in Node and in browsers. */
interface Port {
  post(message: unknown): void;
  onMessage(handler: (message: unknown) => void, onError: (error: Error) => void): void;
  /** Whether the worker keeps the process alive (Node only). */
  hold(alive: boolean): void;
  end(): Promise<void>;
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Whether this JavaScript engine has 128-bit SIMD (the kernels need it). */
export function simdAvailable(): boolean {
  return typeof WebAssembly === "object" && WebAssembly.validate(bytesOf(UNSHARED_WASM));
}
/** Whether threads can share memory here. Browsers want a cross-origin isolated page for it. */
export function threadsAvailable(): boolean {
  return (
    typeof SharedArrayBuffer === "function" &&
    (!("crossOriginIsolated" in globalThis) || globalThis.crossOriginIsolated === true)
  );
}

const isNode = typeof process === "object" && typeof process.versions?.node === "string";

async function startPort(data: object): Promise<Port> {
  if (isNode) {
    // The name is put together so that bundlers for browsers leave it alone.
    const name = "node:worker_threads";
    const { Worker } = (await import(/* @vite-ignore */ name)) as typeof import("node:worker_threads");
    const worker = new Worker(WORKER, { eval: true, workerData: data, execArgv: [] });
    worker.unref();
    return {
      post: (message) => worker.postMessage(message),
      onMessage(handler, onError) {
        worker.on("message", handler);
        worker.on("error", onError);
      },
      hold: (alive) => (alive ? worker.ref() : worker.unref()),
      end: async () => void (await worker.terminate()),
    };
  }
  const url = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
  const worker = new Worker(url);
  URL.revokeObjectURL(url);
  worker.postMessage(data);
  return {
    post: (message) => worker.postMessage(message),
    onMessage(handler, onError) {
      worker.onmessage = (event) => handler(event.data);
      worker.onerror = (event) => onError(new Error(event.message));
    },
    hold() {},
    end: async () => worker.terminate(),
  };
}

/** Slices of an op on the caller's thread: many enough that the longest op leaves room to breathe. */
const SLICES = 16;

/**
 * Runs op lists. With shared memory: in workers, thread 0 being one of them, so that the caller's thread stays free.
 * Without: on the caller's thread, which does what so many threads would, one slice after the other, with a breath for
 * the event loop between them. Answers don't depend on the number of threads, and so not on this.
 */
export class Pool {
  readonly memory: WebAssembly.Memory;
  readonly threads: number;
  /** In how many slices each op is done; what an op keeps for each thread is kept for each of these. */
  readonly slices: number;
  private ports: Port[] = [];
  private inline: Kernels | undefined;
  private settle: ((error?: Error) => void) | undefined;
  private dead: Error | undefined;

  private constructor(memory: WebAssembly.Memory, threads: number, slices: number) {
    this.memory = memory;
    this.threads = threads;
    this.slices = slices;
  }

  /** @param threads 0: on the caller's thread, without shared memory */
  static async start(threads: number): Promise<Pool> {
    if (threads === 0) {
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536 });
      const pool = new Pool(memory, 1, SLICES);
      const module = await WebAssembly.compile(bytesOf(UNSHARED_WASM));
      pool.inline = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernels;
      return pool;
    }
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
    const pool = new Pool(memory, threads, threads);
    const module = await WebAssembly.compile(bytesOf(SHARED_WASM));
    pool.word(CTL_THREADS, threads);
    await Promise.all(
      Array.from({ length: threads }, async (_, tid) => {
        const port = await startPort({ module, memory, tid });
        pool.ports[tid] = port;
        port.hold(true);
        await new Promise<void>((ready, fail) => {
          port.onMessage(
            (message) => {
              if (message === "ready") ready();
              else pool.done((message as { error?: string }).error);
            },
            (error) => {
              fail(error);
              pool.done(error.message);
            },
          );
        });
        port.hold(false);
      }),
    );
    return pool;
  }

  /** Whether the memory is shared: views of it then outlive its growth. */
  get shared(): boolean {
    return this.inline === undefined;
  }

  word(at: number, value: number): void {
    Atomics.store(new Int32Array(this.memory.buffer), (CTL + at) >> 2, value);
  }
  read(at: number): number {
    return Atomics.load(new Int32Array(this.memory.buffer), (CTL + at) >> 2);
  }

  /** @throws Error after `close`, or after a kernel has trapped */
  check(): void {
    if (this.dead) throw this.dead;
  }

  /** Walks the op list that the control block names. @throws AbortError when the signal fires first */
  async run(signal?: AbortSignal): Promise<void> {
    this.check();
    if (signal?.aborted) throw new AbortError(signal);
    this.word(CTL_ABORT, 0);
    const abort = () => this.word(CTL_ABORT, 1);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      if (this.inline) await this.runInline(this.inline);
      else await this.runInWorkers();
    } finally {
      signal?.removeEventListener("abort", abort);
    }
    if (signal?.aborted) throw new AbortError(signal);
  }

  private runInWorkers(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.ports[0].hold(true);
      this.settle = (error) => {
        this.settle = undefined;
        this.ports[0].hold(false);
        if (error) reject(error);
        else resolve();
      };
      this.ports[0].post("run");
    });
  }

  private async runInline(kernels: Kernels): Promise<void> {
    const count = this.read(CTL_COUNT);
    let since = performance.now();
    for (let i = 0; i < count; i++)
      for (let slice = 0; slice < this.slices; slice++) {
        kernels.slice(i, slice, this.slices);
        if (performance.now() - since > 20) {
          await new Promise((resume) => setTimeout(resume, 0));
          since = performance.now();
        }
      }
  }

  private done(error?: string): void {
    // A trap leaves the other threads at a barrier: the pool cannot go on.
    if (error) this.dead = new Error(`the kernels stopped: ${error}`);
    this.settle?.(this.dead);
  }

  async close(): Promise<void> {
    this.dead ??= new Error("the device is closed");
    this.settle?.(this.dead);
    await Promise.all(this.ports.map((port) => port.end()));
  }
}
