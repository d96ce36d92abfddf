import { InputError } from "../../errors.js";
import type { Matrix } from "../device.js";
import type { StoredType } from "../format.js";
import { matrixBytes, PANELS, panelBytes } from "./abi.js";
import type { Arena } from "./arena.js";

/** The int8 rows beside a float matrix by which a head screens its vocabulary. */
export interface Screen {
  readonly address: number;
  readonly panelBytes: number;
}

/** A matrix in the kernels' memory: panels of 16 rows and a descriptor. */
export class WasmMatrix implements Matrix {
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  readonly type: StoredType;
  readonly descriptor: number;
  readonly data: number;
  readonly integer: boolean;
  screen: Screen | undefined;
  private freed = false;
  private readonly arena: Arena;
  private readonly gatherRows: (matrix: WasmMatrix, ids: Int32Array) => Promise<Float32Array>;

  constructor(
    arena: Arena,
    shape: { name: string; rows: number; cols: number; type: StoredType },
    gatherRows: (matrix: WasmMatrix, ids: Int32Array) => Promise<Float32Array>,
  ) {
    this.name = shape.name;
    this.rows = shape.rows;
    this.cols = shape.cols;
    this.type = shape.type;
    this.integer = PANELS[shape.type].integer;
    this.arena = arena;
    this.gatherRows = gatherRows;
    this.data = arena.alloc(matrixBytes(shape.type, shape.rows, shape.cols), shape.name);
    this.descriptor = arena.alloc(64, shape.name);
    const words = new Uint32Array(arena.memory.buffer, this.descriptor, 5);
    words.set([
      PANELS[shape.type].code,
      this.data,
      shape.rows,
      shape.cols,
      panelBytes(shape.type, shape.cols),
    ]);
  }

  get bytes(): number {
    const panels = Math.ceil(this.rows / 16);
    return matrixBytes(this.type, this.rows, this.cols) + (this.screen ? panels * this.screen.panelBytes : 0);
  }

  async gather(ids: ArrayLike<number>): Promise<Float32Array> {
    this.check();
    const wanted = Int32Array.from(ids);
    for (let i = 0; i < wanted.length; i++)
      if (!(ids[i] === wanted[i] && wanted[i] >= 0 && wanted[i] < this.rows))
        throw new InputError(`${this.name}: row ${ids[i]} is outside [0, ${this.rows})`);
    return this.gatherRows(this, wanted);
  }

  /** A matrix as this device's own. @throws InputError when another device made it; Error after `free` */
  static own(matrix: Matrix, arena: Arena): WasmMatrix {
    if (!(matrix instanceof WasmMatrix && matrix.arena === arena))
      throw new InputError(`matrix "${matrix.name}" belongs to another device; load it with this one`);
    matrix.check();
    return matrix;
  }

  /** @throws Error after `free` */
  check(): void {
    if (this.freed) throw new Error(`${this.name}: this matrix was freed`);
  }

  /** Its numbers are about to change: what was made of them is let go. */
  changed(): void {
    if (this.screen) this.arena.release(this.screen.address);
    this.screen = undefined;
  }

  free(): void {
    if (this.freed) return;
    this.freed = true;
    this.arena.release(this.data);
    this.arena.release(this.descriptor);
    if (this.screen) this.arena.release(this.screen.address);
  }
}
