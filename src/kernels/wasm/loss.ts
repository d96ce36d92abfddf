import { InputError } from "../../errors.js";
import type { HeadWeights } from "../device.js";
import type { LossAnswer, LossQuery } from "../loss.js";
import { infinite, refuseInfinite } from "../validate-loss.js";
import { CTL_COUNT, CTL_OPS, CTL_ROWS, OPCODE, quantBytes } from "./abi.js";
import type { Arena } from "./arena.js";
import { padded } from "./body.js";
import { mergeSums } from "./head.js";
import { type Chunk, chunkFrom, chunkRows, layOut, NUMBERS } from "./loss-chunk.js";
import type { WasmMatrix } from "./matrix.js";
import type { Pool } from "./pool.js";
import { f, Records } from "./records.js";

/**
 * Linear + cross-entropy in chunks of rows: the logits of a chunk are made once, folded, turned into their gradients where
 * they stand, and multiplied into both gradients. So loss and gradients take three products, and memory for one chunk.
 * (The scheme is Liger's fused linear cross-entropy.)
 */
export class LossRunner {
  constructor(
    private readonly pool: Pool,
    private readonly arena: Arena,
    private readonly vector: (data: Float32Array | undefined) => number,
    /** The address of a view of the device's arrays; 0 for an ordinary array. */
    private readonly place: (view: Float32Array) => number,
  ) {}

  /** Arguments are checked by `checkLoss`. */
  async loss(
    head: HeadWeights,
    hidden: Float32Array,
    N: number,
    query: LossQuery,
    signal?: AbortSignal,
  ): Promise<LossAnswer> {
    const V = head.vocabSize;
    const D = head.matrix.cols;
    const { hidden: into, bias, filter } = query.gradients;
    const answer: LossAnswer = {
      logSumExp: new Float64Array(N),
      targetLogits: new Float32Array(N * query.perRow),
      ...(query.uniform && { weightedLogits: new Float64Array(N) }),
      ...(query.teacher && { teacherLogits: new Float64Array(N) }),
      ...(into && { dHidden: into === true ? new Float32Array(N * D) : into }),
    };
    if (N === 0) return { ...answer, ...(filter !== undefined && { filtered: 0 }) };
    if (query.gradients.hidden && head.matrix.type !== "f32")
      throw new InputError(
        `${head.matrix.name}: expected float32 weights to differentiate by hidden states, got ${head.matrix.type}; load them as float32`,
      );
    (query.gradients.weight as WasmMatrix | undefined)?.changed();
    // Vectors first: a grown memory has a new buffer, and views of the old one end.
    this.vector(head.bias);
    this.vector(query.teacher?.head.bias);
    const rows = chunkRows(N, V);
    const held: number[] = [];
    const take = (bytes: number, what: string) => {
      const at = this.arena.alloc(bytes, what);
      held.push(at);
      return at;
    };
    try {
      const at = (view: Float32Array | boolean | undefined, width: number) =>
        view instanceof Float32Array && padded(width) === width ? this.place(view) : 0;
      const places = {
        hidden: at(hidden, D),
        teacherHidden: at(query.teacher?.hidden, query.teacher?.head.matrix.cols ?? 0),
        dHidden: at(into, D),
      };
      const chunk = layOut(head, query, rows, places, take);
      this.fill(chunk);
      let kept = 0;
      for (let first = 0; first < N; first += rows)
        kept += await this.chunk(
          chunkFrom(chunk, first),
          hidden,
          first,
          Math.min(rows, N - first),
          answer,
          signal,
        );
      if (bias) bias.set(new Float32Array(this.pool.memory.buffer, chunk.bias, V));
      if (filter === undefined) return answer;
      const all = N * chunk.blocks;
      return { ...answer, filtered: filter === 0 ? 0 : (all - kept) / all };
    } finally {
      for (const at of held) this.arena.release(at);
    }
  }

  /** What all chunks share. */
  private fill(chunk: Chunk): void {
    const { buffer } = this.pool.memory;
    const { query, V } = chunk;
    if (chunk.weights) {
      const weights = new Float32Array(buffer, chunk.weights, padded(V)).fill(0);
      if (query.classWeights) weights.set(query.classWeights);
      else weights.fill(1, 0, V);
    }
    if (chunk.bias) new Float32Array(buffer, chunk.bias, padded(V)).fill(0).set(query.gradients.bias ?? []);
  }

  /** @returns how many blocks the gradient filter kept; 0 without one */
  private async chunk(
    chunk: Chunk,
    hidden: Float32Array,
    first: number,
    rows: number,
    answer: LossAnswer,
    signal?: AbortSignal,
  ): Promise<number> {
    const { query, head, V } = chunk;
    const { teacher, perRow, gradients } = query;
    const D = head.matrix.cols;
    const { buffer } = this.pool.memory;
    const part = <T extends Float32Array | Int32Array>(data: T) =>
      data.subarray(first * perRow, (first + rows) * perRow);
    if (!chunk.places.hidden) this.put(hidden, D, first, rows, chunk.x);
    new Int32Array(buffer, chunk.ids, rows * perRow).set(part(query.ids));
    new Float32Array(buffer, chunk.coefficients, rows * perRow).set(part(query.coefficients));

    const numbers = new Float32Array(buffer, chunk.numbers, rows * NUMBERS).fill(0);
    if (teacher) {
      if (!chunk.places.teacherHidden)
        this.put(teacher.hidden, teacher.head.matrix.cols, first, rows, chunk.teacherX);
      const folded = { ...chunk, weighted: 0, perRow: 0 };
      await this.forward(folded, teacher.head, chunk.teacherX, chunk.teacherLogits, rows, signal);
      for (let r = 0; r < rows; r++) {
        const { max, s } = this.sums(chunk, r, first, "a teacher's");
        numbers.set([max, 1 / s, teacher.soft[first + r]], r * NUMBERS + 4);
      }
    }
    await this.forward({ ...chunk, perRow }, head, chunk.x, chunk.logits, rows, signal);
    if (chunk.weighted) answer.weightedLogits?.set(new Float64Array(buffer, chunk.weighted, rows), first);
    answer.targetLogits.set(new Float32Array(buffer, chunk.targets, rows * perRow), first * perRow);
    const total = query.classWeights ? query.classWeights.reduce((a, b) => a + b, 0) : V;
    for (let r = 0; r < rows; r++) {
      const n = first + r;
      const { max, s } = this.sums(chunk, r, first, "a");
      const logSumExp = max + Math.log(s);
      answer.logSumExp[n] = logSumExp;
      let all =
        (query.uniform?.[n] ?? 0) * total +
        (teacher?.soft[n] ?? 0) +
        2 * (query.squares?.[n] ?? 0) * logSumExp;
      for (let j = n * perRow; j < (n + 1) * perRow; j++) all += query.coefficients[j];
      numbers.set([max, 1 / s, all, query.uniform?.[n] ?? 0], r * NUMBERS);
    }
    refuseInfinite(query, answer, first, rows);
    if (!(gradients.hidden || gradients.weight || gradients.bias || teacher)) return 0;
    await this.backward(chunk, rows, signal);
    if (teacher) {
      const dots = new Float64Array(buffer, chunk.teacherDots, rows);
      // Only a masked id makes a finite row's sum infinite.
      const bad = dots.findIndex((dot, r) => dot === -Infinity && teacher.soft[first + r] !== 0);
      const id = head.bias?.indexOf(-Infinity) ?? -1;
      if (bad >= 0 && id >= 0) throw infinite(first + bad, id);
      if (bad >= 0)
        throw new InputError(`row ${first + bad}: a logit is below float32's range, so its loss is infinite`);
      answer.teacherLogits?.set(dots, first);
    }
    if (answer.dHidden && !chunk.places.dHidden) this.take(answer.dHidden, D, first, rows, chunk.dHidden);
    return chunk.kept ? new Int32Array(buffer, chunk.keptCounts, rows).reduce((a, b) => a + b) : 0;
  }

  /** Logits of a chunk and their folds. */
  private async forward(
    chunk: Chunk & { readonly perRow: number },
    head: HeadWeights,
    x: number,
    logits: number,
    rows: number,
    signal?: AbortSignal,
  ): Promise<void> {
    const { V } = chunk;
    new Int32Array(this.pool.memory.buffer, chunk.flags, rows).fill(0);
    const list = new Records();
    const matrix = head.matrix as WasmMatrix;
    const stride = padded(matrix.cols) * 4;
    if (matrix.integer) list.push(OPCODE.quant, true, [x, stride, chunk.quant, matrix.cols]);
    list.push(OPCODE.lossLogits, true, [
      matrix.descriptor,
      ...(matrix.integer ? [chunk.quant, quantBytes(matrix.cols)] : [x, stride]),
      V,
      this.vector(head.bias),
      f(head.scale),
      logits,
      chunk.logitBytes,
      rows,
      f(head.softcap ?? 0),
    ]);
    list.push(OPCODE.lossFold, true, [
      0,
      0,
      0,
      V,
      0,
      0,
      logits,
      chunk.logitBytes,
      rows,
      chunk.sums,
      chunk.flags,
      chunk.weighted,
      chunk.weights,
      chunk.ids,
      chunk.perRow,
      chunk.targets,
    ]);
    await this.execute(chunk, list, rows, signal);
  }

  private async backward(chunk: Chunk, rows: number, signal?: AbortSignal): Promise<void> {
    const { head, query, V } = chunk;
    const { gradients, perRow } = query;
    const D = head.matrix.cols;
    const { descriptor } = head.matrix as WasmMatrix;
    const list = new Records();
    const common = [V, chunk.bias, f(head.scale), chunk.logits, chunk.logitBytes, rows];
    list.push(OPCODE.lossGradient, true, [
      0,
      0,
      0,
      ...common,
      f(head.softcap ?? 0),
      chunk.numbers,
      chunk.ids,
      perRow,
      chunk.coefficients,
      chunk.weights,
      chunk.teacherLogits,
      chunk.teacherDots,
      chunk.targets,
      f(gradients.filter ?? 0),
      chunk.kept,
      chunk.keptCounts,
    ]);
    if (chunk.dHidden) {
      const stride = padded(D) * 4;
      new Float32Array(this.pool.memory.buffer, chunk.dHidden, padded(D) * rows).fill(0);
      const product = chunk.kept ? OPCODE.filteredInputGradient : OPCODE.inputGradient;
      list.push(product, true, [descriptor, chunk.dHidden, stride, ...common, chunk.kept]);
    }
    const into = gradients.weight as WasmMatrix | undefined;
    if (chunk.kept && into)
      list.push(OPCODE.filteredWeightGradient, true, [
        into.descriptor,
        chunk.x,
        padded(D) * 4,
        ...common,
        chunk.kept,
      ]);
    const whole = chunk.kept ? undefined : into;
    if (whole || gradients.bias) {
      if (whole)
        list.push(OPCODE.transpose, true, [chunk.x, padded(D) * 4, chunk.turned, chunk.turnedBytes, rows, D]);
      list.push(OPCODE.weightGradient, true, [
        whole?.descriptor ?? 0,
        chunk.turned,
        chunk.turnedBytes,
        ...common,
      ]);
    }
    await this.execute(chunk, list, rows, signal);
  }

  private async execute(chunk: Chunk, list: Records, rows: number, signal?: AbortSignal): Promise<void> {
    list.write(this.pool.memory, chunk.list);
    this.pool.word(CTL_OPS, chunk.list);
    this.pool.word(CTL_COUNT, list.count);
    this.pool.word(CTL_ROWS, rows);
    await this.pool.run(signal);
  }

  /** A row's largest logit and Σ e^(y - largest). @throws InputError when they are no distribution */
  private sums(chunk: Chunk, r: number, first: number, whose: string): { max: number; s: number } {
    const { buffer } = this.pool.memory;
    if (new Int32Array(buffer, chunk.flags, r + 1)[r] !== 0)
      throw new InputError(
        `row ${first + r}: ${whose} logit is NaN or +Infinity; the hidden state, the weights or the bias overflow float32`,
      );
    const sums = mergeSums(new Float64Array(buffer, chunk.sums + r * chunk.shards * 24, chunk.shards * 3));
    if (sums.max === -Infinity)
      throw new InputError(
        `row ${first + r}: every logit is -Infinity, so there is no distribution; leave at least one token unmasked`,
      );
    return sums;
  }

  /** Copies rows to the device, padded to whole vectors. */
  private put(data: Float32Array, width: number, first: number, rows: number, to: number): void {
    for (let r = 0; r < rows; r++)
      new Float32Array(this.pool.memory.buffer, to + r * padded(width) * 4, width).set(
        data.subarray((first + r) * width, (first + r + 1) * width),
      );
  }

  /** Copies padded rows back. */
  private take(out: Float32Array, width: number, first: number, rows: number, from: number): void {
    for (let r = 0; r < rows; r++)
      out.set(
        new Float32Array(this.pool.memory.buffer, from + r * padded(width) * 4, width),
        (first + r) * width,
      );
  }
}
