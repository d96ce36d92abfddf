import { InputError } from "../../errors.js";
import type { Matrix, MatrixSource } from "../device.js";
import { rowBytes, type StoredType } from "../format.js";
import type { Breather } from "./breather.js";
import { embedForward } from "./embed.js";
import { widen } from "./widen.js";

/** What a device holds: bytes, counted by those who hold them, and those who must let go when it closes. */
export interface Ledger {
  bytes: number;
  readonly holders: Set<{ free(): void }>;
}

/** Numbers widened between two pauses. */
const CHUNK = 1 << 18;

/** A matrix widened to float32, row-major [rows, cols]. */
export class ReferenceMatrix implements Matrix {
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  readonly type: StoredType;
  readonly bytes: number;
  private numbers: Float32Array | undefined;
  private readonly ledger: Ledger;
  private readonly check: () => void;

  private constructor(source: MatrixSource, numbers: Float32Array, ledger: Ledger, check: () => void) {
    this.name = source.name;
    this.rows = source.rows;
    this.cols = source.cols;
    this.type = source.type;
    this.numbers = numbers;
    this.bytes = numbers.byteLength;
    this.ledger = ledger;
    this.check = check;
    ledger.bytes += this.bytes;
    ledger.holders.add(this);
  }

  /**
   * Reads and widens a stored matrix in parts.
   * @param check throws when the device is closed
   * @throws InputError naming the tensor: a shape that is none, NaN or infinity (with its row and column), no room
   */
  static async load(
    source: MatrixSource,
    ledger: Ledger,
    breather: Breather,
    check: () => void,
  ): Promise<ReferenceMatrix> {
    const { name, rows, cols, type } = source;
    if (!(Number.isSafeInteger(rows) && rows >= 1 && Number.isSafeInteger(cols) && cols >= 1))
      throw new InputError(`${name}: expected a matrix with rows and columns, got [${rows}, ${cols}]`);
    rowBytes(type, cols);
    const numbers = room(source);
    const step = Math.max(1, Math.floor(CHUNK / cols));
    for (let first = 0; first < rows; first += step) {
      const count = Math.min(step, rows - first);
      const part = widen(type, await source.read(first, count), count * cols);
      for (let i = 0; i < part.length; i++)
        if (!Number.isFinite(part[i]))
          throw new InputError(
            `${name}: holds ${part[i]} at [${first + Math.floor(i / cols)}, ${i % cols}]; weights must be finite`,
          );
      numbers.set(part, first * cols);
      await breather.pause();
    }
    return new ReferenceMatrix(source, numbers, ledger, check);
  }

  /** The numbers, [rows, cols]. @throws Error when the matrix was freed or its device closed */
  get data(): Float32Array {
    this.check();
    if (!this.numbers) throw new Error(`matrix "${this.name}" was freed`);
    return this.numbers;
  }

  async gather(ids: ArrayLike<number>): Promise<Float32Array> {
    const { data } = this;
    for (let i = 0; i < ids.length; i++)
      if (!(Number.isInteger(ids[i]) && ids[i] >= 0 && ids[i] < this.rows))
        throw new InputError(`${this.name}: row ${ids[i]} (at ${i}) is not in [0, ${this.rows})`);
    return embedForward(data, ids, this.cols);
  }

  free(): void {
    if (this.numbers) this.ledger.bytes -= this.bytes;
    this.numbers = undefined;
    this.ledger.holders.delete(this);
  }
}

/** The numbers of a matrix of this device. @throws InputError when another device made it */
export function plain(matrix: Matrix): Float32Array {
  if (!(matrix instanceof ReferenceMatrix))
    throw new InputError(`matrix "${matrix.name}" belongs to another device; load it with this one`);
  return matrix.data;
}

function room({ name, rows, cols }: MatrixSource): Float32Array {
  try {
    return new Float32Array(rows * cols);
  } catch {
    throw new InputError(
      `${name}: [${rows}, ${cols}] takes ${(((rows * cols) / 2 ** 30) * 4).toFixed(1)} GiB in float32, more than there is room for; the wasm device keeps stored types`,
    );
  }
}
