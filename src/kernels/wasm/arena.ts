import { InputError } from "../../errors.js";
import { ARENA_START } from "./abi.js";

const ALIGN = 64;
const LIMIT = 65535 * 65536;

/** Memory of the kernels: a first-fit allocator over one WebAssembly memory. Addresses are multiples of 64. */
export class Arena {
  readonly memory: WebAssembly.Memory;
  /** Bytes given out. */
  used = 0;
  private end = ARENA_START;
  /** Free ranges [start, size], ascending, never touching. */
  private holes: [number, number][] = [];
  private readonly sizes = new Map<number, number>();

  constructor(memory: WebAssembly.Memory) {
    this.memory = memory;
  }

  /** Bytes that could still be given out. */
  get free(): number {
    return LIMIT - ARENA_START - this.used;
  }

  /**
   * `bytes` of memory, not cleared.
   * @param advice what to do where they do not fit; default: which weights would
   * @throws InputError when 32-bit WebAssembly's 4 GiB, or the machine's memory, do not hold it
   */
  alloc(bytes: number, what: string, advice?: string): number {
    const size = Math.max(ALIGN, Math.ceil(bytes / ALIGN) * ALIGN);
    let at = -1;
    for (let i = 0; i < this.holes.length; i++) {
      const hole = this.holes[i];
      if (hole[1] < size) continue;
      at = hole[0];
      if (hole[1] === size) this.holes.splice(i, 1);
      else this.holes[i] = [hole[0] + size, hole[1] - size];
      break;
    }
    if (at < 0) {
      at = this.end;
      this.grow(at + size, what, bytes, advice);
      this.end = at + size;
    }
    this.sizes.set(at, size);
    this.used += size;
    return at;
  }

  release(at: number): void {
    const size = this.sizes.get(at);
    if (size === undefined) return;
    this.sizes.delete(at);
    this.used -= size;
    let i = 0;
    while (i < this.holes.length && this.holes[i][0] < at) i++;
    this.holes.splice(i, 0, [at, size]);
    this.join(i);
    if (i > 0) this.join(i - 1);
  }

  private join(i: number): void {
    const next = this.holes[i + 1];
    if (next && this.holes[i][0] + this.holes[i][1] === next[0]) {
      this.holes[i][1] += next[1];
      this.holes.splice(i + 1, 1);
    }
  }

  private grow(end: number, what: string, bytes: number, advice?: string): void {
    const have = this.memory.buffer.byteLength;
    if (end <= have) return;
    const mib = (n: number) => `${Math.round(n / 2 ** 20)} MiB`;
    const refuse = (why: string) => {
      throw new InputError(
        `${what} does not fit: it needs ${mib(bytes)}, ${mib(this.used)} are taken, and ${why}; ` +
          (advice ?? this.weightAdvice()),
      );
    };
    if (end > LIMIT) refuse("32-bit WebAssembly memory ends at 4 GiB");
    try {
      this.memory.grow(Math.ceil((end - have) / 65536));
    } catch {
      refuse("the machine gives no more memory");
    }
  }

  private weightAdvice(): string {
    const millions = (bytes: number) => Math.floor(this.free / (bytes * 1e6));
    return (
      `take a model of fewer or smaller weights: ${Math.round(this.free / 2 ** 20)} MiB are left, which hold about ` +
      `${millions(4)} million f32, ${millions(2)} million bf16 or ${millions(0.75)} million 4-bit weights`
    );
  }
}
