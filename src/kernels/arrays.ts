import { InputError } from "../errors.js";
import type { DeviceArray } from "./device.js";

/** Where a device takes the memory of its arrays from. */
export interface ArrayMemory {
  /** `length` zeros. @throws InputError when there is no room */
  take(length: number): Float32Array;
  giveBack(data: Float32Array): void;
}

/** An array, and how many calls work on it. */
interface Held {
  readonly data: Float32Array;
  users: number;
  freed: boolean;
}

/** Which device's arrays stand in a buffer; a buffer that is not here holds ordinary arrays. */
const owners = new WeakMap<ArrayBufferLike, DeviceArrays>();

/** The arrays of one device: what stands behind `Device.array`. */
export class DeviceArrays {
  private readonly arrays = new Set<Held>();

  constructor(private readonly memory: ArrayMemory) {}

  /** @throws InputError for a length that is none, or when there is no room */
  make(length: number): DeviceArray {
    if (!(Number.isSafeInteger(length) && length >= 0))
      throw new InputError(`array: length: expected a whole number from 0, got ${length}`);
    const held: Held = { data: this.memory.take(length), users: 0, freed: false };
    owners.set(held.data.buffer, this);
    this.arrays.add(held);
    const settle = () => this.settle(held);
    return {
      get data() {
        if (held.freed) throw new Error("this device array was freed");
        return held.data;
      },
      free() {
        held.freed = true;
        settle();
      },
    };
  }

  /** Whether a view stands in this device's arrays. */
  has(view: Float32Array): boolean {
    return owners.get(view.buffer) === this;
  }

  /** Marks the array that a view lies in as used. @returns ends the use @throws InputError for a view of no live array */
  use(what: string, view: Float32Array): () => void {
    const end = view.byteOffset + view.byteLength;
    const held = [...this.arrays].find(
      ({ freed, data }) =>
        !freed &&
        data.buffer === view.buffer &&
        data.byteOffset <= view.byteOffset &&
        end <= data.byteOffset + data.byteLength,
    );
    if (!held)
      throw new InputError(
        `${what}: expected an ordinary array or a view of one device array, got a view of device memory that was freed or that lies outside of it; make another with device.array`,
      );
    held.users++;
    return () => {
      held.users--;
      this.settle(held);
    };
  }

  private settle(held: Held): void {
    if (!held.freed || held.users > 0 || !this.arrays.delete(held)) return;
    this.memory.giveBack(held.data);
  }
}

/**
 * Runs a task on arrays of which some may be views of device memory: that memory stays until the task has settled, even
 * when an array is freed meanwhile.
 * @param views by the name that error messages give them; what is no Float32Array is left to other checks
 * @throws InputError for a view of an array that was freed before
 */
export async function withArrays<T>(
  views: Readonly<Record<string, unknown>>,
  task: () => Promise<T>,
): Promise<T> {
  const ends: (() => void)[] = [];
  try {
    for (const [what, view] of Object.entries(views)) {
      const owner = view instanceof Float32Array ? owners.get(view.buffer) : undefined;
      if (owner) ends.push(owner.use(what, view as Float32Array));
    }
    return await task();
  } finally {
    for (const end of ends) end();
  }
}
