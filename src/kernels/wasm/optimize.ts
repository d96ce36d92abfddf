import { InputError } from "../../errors.js";
import type { Matrix } from "../device.js";
import { type AdamWUpdate, checkUpdate, overflow } from "../optimize.js";
import { CTL_COUNT, CTL_FAULT, CTL_FAULT_AT, CTL_OPS, OPCODE } from "./abi.js";
import type { Arena } from "./arena.js";
import { WasmMatrix } from "./matrix.js";
import type { Pool } from "./pool.js";
import { f, Records } from "./records.js";

/** What an optimizer does to matrices where they stand. */
export class OptimizerRunner {
  constructor(
    private readonly pool: Pool,
    private readonly arena: Arena,
  ) {}

  /** @throws InputError as `checkUpdate`, or naming a matrix whose values have left float32's range */
  async adamw(updates: readonly AdamWUpdate[]): Promise<void> {
    const records = new Records();
    for (const [i, update] of updates.entries()) {
      checkUpdate(update);
      const { value, gradient, m, v, scalars: s, factor } = update;
      const own = [value, gradient, m, v].map((matrix) => WasmMatrix.own(matrix, this.arena));
      const numbers = [s.decay, s.m.beta, s.m.rest, s.v.beta, s.v.rest, s.root, s.eps, s.size, factor];
      records.push(OPCODE.adamw, i === updates.length - 1, [
        ...own.map(({ descriptor }) => descriptor),
        ...numbers.map(f),
        i,
      ]);
    }
    for (const { value } of updates) (value as WasmMatrix).changed();
    this.pool.word(CTL_FAULT, 0);
    await this.execute(records);
    if (this.pool.read(CTL_FAULT) !== 0) throw overflow(updates[this.pool.read(CTL_FAULT_AT)].value.name);
  }

  /** Σ x² of each matrix; panels are added in order, so threads change nothing. */
  async squares(matrices: readonly Matrix[]): Promise<Float64Array> {
    const own = matrices.map((matrix) => this.own("squares", matrix));
    const panels = own.map(({ rows }) => Math.ceil(rows / 16));
    const out = this.arena.alloc(8 * panels.reduce((a, b) => a + b, 0), "sums of squares");
    try {
      const records = new Records();
      let at = out;
      for (const [i, { descriptor }] of own.entries()) {
        records.push(OPCODE.squares, i === own.length - 1, [descriptor, at]);
        at += panels[i] * 8;
      }
      await this.execute(records);
      at = out;
      return Float64Array.from(panels, (count) => {
        const parts = new Float64Array(this.pool.memory.buffer, at, count);
        at += count * 8;
        return parts.reduce((a, b) => a + b, 0);
      });
    } finally {
      this.arena.release(out);
    }
  }

  async zero(matrices: readonly Matrix[]): Promise<void> {
    const records = new Records();
    for (const [i, matrix] of matrices.entries()) {
      const own = this.own("zero", matrix);
      own.changed();
      const { data, rows, cols } = own;
      const last = i === matrices.length - 1;
      records.push(OPCODE.clear, last, [data, cols * 64, Math.ceil(rows / 16), cols * 16]);
    }
    await this.execute(records);
  }

  private own(what: string, matrix: Matrix): WasmMatrix {
    if (matrix.type !== "f32")
      throw new InputError(`${what}: ${matrix.name}: expected a float32 matrix, got ${matrix.type}`);
    return WasmMatrix.own(matrix, this.arena);
  }

  private async execute(records: Records): Promise<void> {
    if (records.count === 0) return;
    const list = this.arena.alloc(records.bytes, "an op list");
    try {
      records.write(this.pool.memory, list);
      this.pool.word(CTL_OPS, list);
      this.pool.word(CTL_COUNT, records.count);
      await this.pool.run();
    } finally {
      this.arena.release(list);
    }
  }
}
