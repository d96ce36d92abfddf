import { InputError } from "../../errors.js";
import type { KvCache } from "../device.js";
import type { CacheLayer } from "../op.js";
import type { Ledger } from "./matrix.js";

/** Keys and values of one layer, each [room, kvHeads · headDim], of which the cache's first `length` rows count. */
export interface LayerCache {
  k: Float32Array;
  v: Float32Array;
}

/** Keys and values of one sequence: two growing arrays a layer. A fork is a copy. */
export class ReferenceCache implements KvCache {
  private held = 0;
  private room = 0;
  private freed = false;
  /** A run is writing behind `length`. */
  busy = false;
  private readonly widths: readonly number[];
  private readonly layers: LayerCache[];
  private readonly ledger: Ledger;

  /** @param widths numbers of a position's keys, for each layer: kvHeads · headDim */
  constructor(widths: readonly number[], ledger: Ledger) {
    this.widths = widths;
    this.layers = widths.map(() => ({ k: new Float32Array(0), v: new Float32Array(0) }));
    this.ledger = ledger;
    ledger.holders.add(this);
  }

  get length(): number {
    return this.held;
  }

  /** Whether a position of these layers has the shape of this cache's. */
  fits(layout: readonly CacheLayer[]): boolean {
    return String(cacheWidths(layout)) === String(this.widths);
  }

  /** Makes room for `rows` more positions; `length` stays. */
  reserve(rows: number): void {
    this.alive();
    const needed = this.held + rows;
    if (needed <= this.room) return;
    this.resize(Math.max(needed, 2 * this.room));
  }

  /** Keys and values of a layer, with the room that was reserved. @throws Error when the cache was freed */
  layer(index: number): LayerCache {
    this.alive();
    return this.layers[index];
  }

  /** Counts `rows` positions that a run has written. */
  commit(rows: number): void {
    this.alive();
    this.held += rows;
  }

  /** @throws RangeError when `length` is not a number of positions that it holds; Error during a run */
  truncate(length: number): void {
    this.alive();
    if (!(Number.isInteger(length) && length >= 0 && length <= this.held))
      throw new RangeError(`cannot cut a cache of ${this.held} positions to ${length}`);
    if (this.busy) throw new Error("a run is using this cache; wait for it before cutting");
    this.held = length;
  }

  fork(): KvCache {
    this.alive();
    const other = new ReferenceCache(this.widths, this.ledger);
    other.reserve(this.held);
    for (const [i, { k, v }] of this.layers.entries()) {
      other.layers[i].k.set(k.subarray(0, this.held * this.widths[i]));
      other.layers[i].v.set(v.subarray(0, this.held * this.widths[i]));
    }
    other.held = this.held;
    return other;
  }

  free(): void {
    this.held = 0;
    this.resize(0);
    this.freed = true;
    this.ledger.holders.delete(this);
  }

  private alive(): void {
    if (this.freed) throw new InputError("this cache was freed");
  }

  /** New arrays of `room` positions with what is held in them. */
  private resize(room: number): void {
    const width = this.widths.reduce((sum, w) => sum + w, 0);
    this.ledger.bytes += (room - this.room) * width * 8;
    this.room = room;
    for (const [i, layer] of this.layers.entries())
      for (const name of ["k", "v"] as const) {
        const old = layer[name].subarray(0, Math.min(room, this.held) * this.widths[i]);
        layer[name] = new Float32Array(room * this.widths[i]);
        layer[name].set(old);
      }
  }
}

/** Numbers of a position's keys (as many as of its values), for each layer. */
export function cacheWidths(layout: readonly CacheLayer[]): number[] {
  return layout.map(({ kvHeads, headDim }) => kvHeads * headDim);
}
