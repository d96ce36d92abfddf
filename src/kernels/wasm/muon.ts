import type { MuonUpdate } from "../optimize.js";
import { COEFFICIENTS, ITERATIONS, LEAST_NORM } from "../reference/newton-schulz.js";
import { CHUNK } from "../reference/squares.js";
import { OPCODE } from "./abi.js";
import type { Arena } from "./arena.js";
import { WasmMatrix } from "./matrix.js";
import { f, type Records } from "./records.js";

/** Where a step of Muon works: X [S, L], two of Xᵀ [L, S], and G and the panels of F [S, S]; see assembly/muon.ts. */
export class MuonRoom {
  private readonly held: number[] = [];
  private readonly x: number;
  private readonly turned: readonly [number, number];
  private readonly gram: number;
  private readonly panels: number;
  private readonly sums: number;

  /** Room for the largest of these updates. @throws InputError when it does not fit */
  constructor(
    private readonly arena: Arena,
    updates: readonly MuonUpdate[],
  ) {
    const shapes = updates.map(({ value }) => shapeOf(value));
    const take = (bytes: (shape: Shape) => number) => {
      this.held.push(arena.alloc(Math.max(...shapes.map(bytes)), "Muon's working memory"));
      return this.held[this.held.length - 1];
    };
    try {
      const turned = ({ L, turnedStride }: Shape) => whole(L) * turnedStride;
      this.x = take(({ S, xStride }) => whole(S) * xStride);
      this.turned = [take(turned), take(turned)];
      this.gram = take(({ S, turnedStride }) => whole(S) * turnedStride);
      this.panels = take(({ S }) => whole(S) * whole(S) * 4);
      this.sums = take(({ chunks }) => chunks * 8);
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Appends the ops of one step; `number` is reported when it leaves float32's range. */
  push(records: Records, update: MuonUpdate, number: number): void {
    const { value, gradient, momentum, scalars, factor } = update;
    const own = (matrix: typeof value) => WasmMatrix.own(matrix, this.arena).descriptor;
    const { S, L, xStride, turnedStride } = shapeOf(value);
    const [a, b, c] = COEFFICIENTS.map(f);
    const { beta, rest } = scalars.momentum;
    let [now, next] = this.turned;
    const push = (code: number, fields: Parameters<Records["push"]>[2]) => records.push(code, true, fields);
    const transpose = () => push(OPCODE.transpose, [now, turnedStride, this.x, xStride, L, S]);

    const tall = value.rows > value.cols;
    const columns = () => (tall ? [this.x, xStride] : [now, turnedStride]);
    push(OPCODE.muonMomentum, [
      own(gradient),
      own(momentum),
      ...columns(),
      f(beta),
      f(rest),
      scalars.nesterov ? 1 : 0,
      f(factor),
      number,
    ]);
    if (tall) push(OPCODE.transpose, [this.x, xStride, now, turnedStride, S, L]);
    else transpose();
    push(OPCODE.muonSquares, [this.x, xStride, S, L, this.sums]);
    push(OPCODE.muonScale, [now, turnedStride, S, L, this.sums, f(LEAST_NORM)]);
    const gram = [this.gram, turnedStride];
    for (let i = 0; i < ITERATIONS; i++) {
      transpose();
      push(OPCODE.muonGram, [this.x, xStride, now, turnedStride, S, L, this.panels, ...gram, 0]);
      push(OPCODE.muonGram, [...gram, ...gram, S, S, this.panels, ...gram, 1, b, c]);
      push(OPCODE.muonApply, [now, turnedStride, next, S, L, this.panels, a]);
      [now, next] = [next, now];
    }
    if (tall) transpose();
    push(OPCODE.muonStep, [own(value), ...columns(), f(scalars.decay), f(scalars.rate), number]);
  }

  release(): void {
    for (const address of this.held) this.arena.release(address);
  }
}

interface Shape {
  /** The shorter side and the longer. */
  readonly S: number;
  readonly L: number;
  /** Bytes from row to row of X and of Xᵀ: a little more than a power of two, which caches like. */
  readonly xStride: number;
  readonly turnedStride: number;
  readonly chunks: number;
}

function shapeOf({ rows, cols }: { readonly rows: number; readonly cols: number }): Shape {
  const [S, L] = rows > cols ? [cols, rows] : [rows, cols];
  const chunks = Math.ceil((S * L) / CHUNK);
  return { S, L, xStride: (whole(L) + 16) * 4, turnedStride: (whole(S) + 16) * 4, chunks };
}

/** Up to whole panels. */
function whole(n: number): number {
  return Math.ceil(n / 16) * 16;
}
