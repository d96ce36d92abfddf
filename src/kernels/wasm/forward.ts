import type { Block } from "../blocks.js";
import type { Program } from "../op.js";
import type { RecordCall } from "../tape.js";
import type { Place, Space } from "./body.js";
import type { TapeHost } from "./walk.js";

/**
 * The forward of a recorded run: its blocks, one after the other in one place of memory, each with what its way back
 * reads. What enters a block stands beside, on the host; so any block can run again.
 */
export class Forward {
  private readonly space: Space = { address: 0, bytes: 0 };
  /** What enters each block; empty for those that begin with the call's own ids or vectors. */
  private readonly entering: Float32Array[] = [];
  /** Buffers that blocks before the last have left for good. */
  private readonly left = new Map<string, Float32Array>();
  /** The block that stands in memory. */
  private standing: { readonly index: number; readonly values: ReadonlyMap<string, Place> } | undefined;

  constructor(
    private readonly host: TapeHost,
    private readonly program: Program,
    private readonly blocks: readonly Block[],
    private readonly call: RecordCall,
  ) {}

  /** Runs all blocks. @throws AbortError; InputError when they do not fit the device */
  async run(signal: AbortSignal | undefined): Promise<void> {
    const end = this.blocks.length - 1;
    for (const [index, { last }] of this.blocks.entries()) {
      await this.enter(index, signal);
      if (index < end) for (const buffer of last) this.left.set(buffer, this.read(buffer));
      for (const [later, { input }] of this.blocks.entries())
        if (input?.from === index) this.entering[later] = this.read(input.buffer);
    }
  }

  /** The buffers of a block's plan, which runs again unless it stands. @throws AbortError */
  async enter(index: number, signal: AbortSignal | undefined): Promise<ReadonlyMap<string, Place>> {
    if (this.standing?.index === index) return this.standing.values;
    this.standing = undefined;
    const { plan, input } = this.blocks[index];
    const { lengths, ids, vectors, dropout } = this.call;
    const given = input ? { vectors: { into: input.buffer, data: this.entering[index] } } : { ids, vectors };
    const segments = lengths.map((rows) => ({ cache: this.host.cache(plan.forward), rows }));
    try {
      const run = { segments, ...given, signal };
      const values = await this.host.bodies.launch(plan.forward, run, this.space, dropout);
      this.standing = { index, values };
      return values;
    } finally {
      for (const { cache } of segments) cache.free();
    }
  }

  /** [N, width]: a buffer as the program left it. */
  output(buffer: string): Float32Array {
    const left = this.left.get(buffer);
    if (left) return left.slice();
    if (this.standing?.index !== this.blocks.length - 1)
      throw new Error(`"${buffer}" was let go by backward, which runs blocks again; read outputs before it`);
    return this.read(buffer);
  }

  get bytes(): number {
    const held = [...this.left.values(), ...this.entering.filter((array) => array !== undefined)];
    return held.reduce((sum, { byteLength }) => sum + byteLength, this.space.bytes);
  }

  free(): void {
    if (this.space.address) this.host.arena.release(this.space.address);
    this.space.address = 0;
    this.space.bytes = 0;
    this.entering.length = 0;
    this.left.clear();
  }

  /** A buffer as the standing block left it. */
  private read(buffer: string): Float32Array {
    const { index, values } = this.standing!; // callers have seen it
    const rows = this.call.lengths.reduce((sum, length) => sum + length, 0);
    const place = values.get(this.blocks[index].plan.final[buffer])!; // the plan names only what its forward has
    return this.host.read(place, this.program.buffers[buffer], rows);
  }
}
