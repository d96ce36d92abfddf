import type { KvCache } from "../device.js";
import type { Program } from "../op.js";
import { BLOCK, headBytes } from "./abi.js";
import type { Arena } from "./arena.js";

/** What to do where a cache does not fit. */
const ADVICE = "take a shorter text (to score one: a smaller window), or fewer sequences at a time";

/** A block of 32 positions of every layer; forks share it until one of them writes. */
interface Block {
  readonly address: number;
  users: number;
}

/** Byte offset of each attention layer in a block, and the block's size. */
export function cacheLayout(program: Pick<Program, "cache">): { offsets: number[]; bytes: number } {
  const offsets: number[] = [];
  let bytes = 0;
  for (const layer of program.cache) {
    offsets.push(bytes);
    bytes += layer.kvHeads * headBytes(layer.headDim);
  }
  return { offsets, bytes: Math.max(bytes, 64) };
}

/** Keys and values of one sequence in the kernels' memory, in blocks grown on demand. */
export class WasmCache implements KvCache {
  length = 0;
  private blocks: Block[] = [];
  private table = 0;
  private tableRoom = 0;
  private readonly arena: Arena;
  private readonly blockBytes: number;
  private freed = false;

  constructor(arena: Arena, blockBytes: number) {
    this.arena = arena;
    this.blockBytes = blockBytes;
  }

  /** Makes room for `rows` more positions, blocks of its own where they are written; returns the block table's address. */
  reserve(rows: number): number {
    if (this.freed) throw new Error("this cache was freed");
    const first = Math.floor(this.length / BLOCK);
    const last = Math.ceil((this.length + rows) / BLOCK);
    const partial = this.blocks[first];
    if (partial && partial.users > 1 && this.length % BLOCK > 0) {
      const own = this.newBlock();
      const bytes = new Uint8Array(this.arena.memory.buffer);
      bytes.copyWithin(own.address, partial.address, partial.address + this.blockBytes);
      partial.users--;
      this.blocks[first] = own;
    }
    while (this.blocks.length < last) this.blocks.push(this.newBlock());
    if (last > this.tableRoom) {
      if (this.table) this.arena.release(this.table);
      this.tableRoom = Math.max(16, last * 2);
      this.table = this.arena.alloc(this.tableRoom * 4, "the table of a sequence's cache");
    }
    const table = new Uint32Array(this.arena.memory.buffer, this.table, this.tableRoom);
    for (let i = 0; i < this.blocks.length; i++) table[i] = this.blocks[i].address;
    return this.table;
  }

  truncate(length: number): void {
    if (!(length >= 0 && length <= this.length))
      throw new RangeError(`cannot cut a cache of ${this.length} positions to ${length}`);
    this.length = length;
    for (const block of this.blocks.splice(Math.ceil(length / BLOCK))) this.drop(block);
  }

  fork(): KvCache {
    const other = new WasmCache(this.arena, this.blockBytes);
    other.length = this.length;
    other.blocks = this.blocks.slice(0, Math.ceil(this.length / BLOCK));
    for (const block of other.blocks) block.users++;
    return other;
  }

  free(): void {
    for (const block of this.blocks.splice(0)) this.drop(block);
    if (this.table) this.arena.release(this.table);
    this.table = 0;
    this.freed = true;
  }

  private newBlock(): Block {
    const address = this.arena.alloc(
      this.blockBytes,
      `a sequence's cache of ${BLOCK} more positions`,
      ADVICE,
    );
    // Memory may hold anything; keys that are read before they are written must be finite.
    new Uint8Array(this.arena.memory.buffer, address, this.blockBytes).fill(0);
    return { address, users: 1 };
  }

  private drop(block: Block): void {
    if (--block.users === 0) this.arena.release(block.address);
  }
}
