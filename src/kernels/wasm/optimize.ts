import { InputError } from "../../errors.js";
import type { Matrix } from "../device.js";
import {
  checkUpdates,
  type MatrixUpdate,
  type MuonUpdate,
  overflow,
  type Rate,
  statesOf,
} from "../optimize.js";
import { CTL_COUNT, CTL_FAULT, CTL_FAULT_AT, CTL_OPS, OPCODE } from "./abi.js";
import type { Arena } from "./arena.js";
import { WasmMatrix } from "./matrix.js";
import { MuonRoom } from "./muon.js";
import type { Pool } from "./pool.js";
import { f, Records } from "./records.js";

/** What an optimizer does to matrices where they stand. */
export class OptimizerRunner {
  constructor(
    private readonly pool: Pool,
    private readonly arena: Arena,
  ) {}

  /** Contract: see `Device.update`. */
  async update(updates: readonly MatrixUpdate[]): Promise<void> {
    checkUpdates(updates);
    for (const update of updates)
      for (const matrix of [update.value, update.gradient, ...statesOf(update)])
        WasmMatrix.own(matrix, this.arena);
    const muons = updates.filter((update) => update.kind === "muon");
    const room = muons.length > 0 ? new MuonRoom(this.arena, muons) : undefined;
    try {
      const records = new Records();
      for (const [i, update] of updates.entries()) {
        if (update.kind === "muon") room?.push(records, update, i);
        else this.pointwise(records, update, i);
      }
      records.sync();
      for (const update of updates)
        for (const matrix of [update.value, ...statesOf(update)]) (matrix as WasmMatrix).changed();
      this.pool.word(CTL_FAULT, 0);
      await this.execute(records);
    } finally {
      room?.release();
    }
    if (this.pool.read(CTL_FAULT) !== 0) throw overflow(updates[this.pool.read(CTL_FAULT_AT)]);
  }

  /** One step that walks its matrices as flat numbers. No barrier: a thread meets the same panels in all of them. */
  private pointwise(records: Records, update: Exclude<MatrixUpdate, MuonUpdate>, number: number): void {
    const own = (matrix: Matrix | undefined) => (matrix as WasmMatrix | undefined)?.descriptor ?? 0;
    const { value, gradient } = update;
    const by = f(update.factor);
    const both = ({ beta, rest }: Rate) => [f(beta), f(rest)];
    if (update.kind === "adamw") {
      const { decay, m, v, root, eps, size } = update.scalars;
      const numbers = [f(decay), ...both(m), ...both(v), f(root), f(eps), f(size), by];
      const matrices = [value, gradient, update.m, update.v].map(own);
      records.push(OPCODE.adamw, false, [...matrices, ...numbers, number]);
    } else if (update.kind === "sgd") {
      const { rate, decay, momentum, share, nesterov } = update.scalars;
      const matrices = [value, gradient, update.momentum].map(own);
      const numbers = [f(rate), f(decay), f(momentum), f(share), nesterov ? 1 : 0, by];
      records.push(OPCODE.sgd, false, [...matrices, 0, ...numbers, number]);
    } else {
      const { rate, decay, direction, memory } = update.scalars;
      const numbers = [f(rate), f(decay), ...both(direction), ...both(memory), by];
      records.push(OPCODE.lion, false, [...[value, gradient, update.m].map(own), 0, ...numbers, number]);
    }
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
