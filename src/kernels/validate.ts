import { checkFields, InputError } from "../errors.js";
import type { HeadQuery, HeadWeights, KvCache, RunCall } from "./device.js";
import type { Program } from "./op.js";
import { checkProgram } from "./program.js";

/** What every device needs to know of a checked call. */
export interface RunShape {
  /** Rows of all segments. */
  readonly N: number;
  /** [N], each row's position in its sequence: what its cache holds, counted on. */
  readonly positions: Int32Array;
  /** [segments], each segment's first row. */
  readonly starts: Int32Array;
}

/**
 * Checks a call of a program. Caches are read as they are now, so a device calls this when the call's turn comes.
 * @throws InputError naming the segment, id, row or buffer, what was expected and what came
 */
export function checkRun(program: Program, call: RunCall): RunShape {
  const { tables, inputs } = checkProgram(program);
  checkFields("run", call, ["segments", "ids", "vectors", "outputs", "signal"]);
  const starts = new Int32Array(call.segments.length);
  const seen = new Set<KvCache>();
  let N = 0;
  for (const [index, { cache, rows }] of call.segments.entries()) {
    if (!Number.isSafeInteger(rows) || rows < 0)
      throw new InputError(`run: segment ${index}: rows: expected a whole number from 0, got ${rows}`);
    if (seen.has(cache))
      throw new InputError(
        `run: segment ${index} has the cache of an earlier segment; fork it, or join the two`,
      );
    seen.add(cache);
    if (cache.length + rows > program.maxPositions)
      throw new InputError(
        `run: segment ${index}: ${cache.length} positions held and ${rows} new ones make ${cache.length + rows}; the context length is ${program.maxPositions}`,
      );
    starts[index] = N;
    N += rows;
  }
  if (tables.length > 0) {
    if (call.vectors) throw new InputError("run: this program begins with ids, but vectors came");
    checkIds(call.ids, N, Math.min(...tables.map((table) => table.rows)));
  } else {
    if (call.ids) throw new InputError("run: this program has no embedding, but ids came; give vectors");
    checkVectors(program, call.vectors, inputs, N);
  }
  for (const { buffer, rows } of call.outputs) {
    bufferWidth(program, buffer, "output");
    if (rows) checkRange(`run: rows of output "${buffer}"`, rows, N, "row");
  }
  const positions = new Int32Array(N);
  for (const [index, { cache, rows }] of call.segments.entries())
    for (let i = 0; i < rows; i++) positions[starts[index] + i] = cache.length + i;
  return { N, positions, starts };
}

function checkIds(ids: Int32Array | undefined, N: number, rows: number): void {
  if (!ids) throw new InputError("run: this program begins with ids, but none came");
  if (ids.length !== N) throw new InputError(`run: the segments have ${N} rows, but ${ids.length} ids came`);
  checkRange("run: ids", ids, rows, "id");
}

function checkVectors(
  program: Program,
  vectors: RunCall["vectors"],
  inputs: readonly string[],
  N: number,
): void {
  if (!vectors) {
    if (inputs.length === 0) return;
    throw new InputError(`run: this program needs vectors in "${inputs[0]}", but none came`);
  }
  const width = bufferWidth(program, vectors.into, "vectors.into");
  const [input] = inputs;
  if (vectors.into !== input)
    throw new InputError(
      `run: vectors go into "${vectors.into}", but ${input === undefined ? "the program reads no input" : `the program reads "${input}"`}`,
    );
  if (vectors.data.length !== N * width)
    throw new InputError(
      `run: ${N} rows of "${vectors.into}" take ${N} × ${width} = ${N * width} numbers, but ${vectors.data.length} came`,
    );
  checkFinite(`run: vectors for "${vectors.into}"`, vectors.data, width);
}

function bufferWidth(program: Program, name: string, what: string): number {
  if (!Object.hasOwn(program.buffers, name))
    throw new InputError(
      `run: ${what}: unknown buffer "${name}"; the program has ${Object.keys(program.buffers).join(", ")}`,
    );
  return program.buffers[name];
}

/**
 * Checks a question to a head.
 * @param hidden [N, D]; N is its length over the matrix's columns
 * @throws InputError naming the option, row or id, what was expected and what came
 */
export function checkAsk(
  head: HeadWeights,
  hidden: Float32Array,
  query: HeadQuery,
): { N: number; D: number } {
  const { matrix, vocabSize } = head;
  const D = matrix.cols;
  if (!(Number.isSafeInteger(vocabSize) && vocabSize >= 1 && vocabSize <= matrix.rows))
    throw new InputError(
      `head: vocabSize: expected a whole number from 1 to the ${matrix.rows} rows of "${matrix.name}", got ${vocabSize}`,
    );
  if (!Number.isFinite(head.scale))
    throw new InputError(`head: scale: expected a finite number, got ${head.scale}`);
  if (head.softcap !== undefined && !(head.softcap > 0 && head.softcap < Infinity))
    throw new InputError(`head: softcap: expected a number above 0, got ${head.softcap}`);
  if (head.bias) checkBias(head.bias, vocabSize);
  if (hidden.length % D !== 0)
    throw new InputError(`ask: ${hidden.length} numbers are not whole hidden rows of ${D}`);
  const N = hidden.length / D;
  checkFinite("ask: hidden", hidden, D);

  checkFields("ask", query, ["topK", "targets", "rank", "logSumExp", "entropy", "sample", "logits"]);
  const { topK, targets, sample } = query;
  if (!(Number.isSafeInteger(topK) && topK >= 0 && topK <= vocabSize))
    throw new InputError(
      `ask: topK: expected a whole number from 0 to the vocabulary's ${vocabSize}, got ${topK}`,
    );
  if (targets) {
    const { ids, perRow } = targets;
    if (!(Number.isSafeInteger(perRow) && perRow >= 1))
      throw new InputError(`ask: targets.perRow: expected a whole number from 1, got ${perRow}`);
    if (ids.length !== N * perRow)
      throw new InputError(
        `ask: ${N} rows of ${perRow} targets take ${N * perRow} ids, but ${ids.length} came`,
      );
    checkRange("ask: targets", ids, vocabSize, "id");
  } else if (query.rank) throw new InputError("ask: rank is of targets, but there are none");
  if (sample) {
    // Devices divide by the temperature in float32, where it must still be a number above 0.
    const temperature = Math.fround(sample.temperature);
    if (!(temperature > 0 && temperature < Infinity))
      throw new InputError(`ask: temperature: expected a number above 0, got ${sample.temperature}`);
    if (!(Number.isSafeInteger(sample.seed) && sample.seed >= 0))
      throw new InputError(`ask: seed: expected a whole number from 0 to 2^53 - 1, got ${sample.seed}`);
    for (const name of ["sequences", "steps"] as const)
      if (sample[name].length !== N)
        throw new InputError(`ask: sample.${name}: expected ${N}, one a row, got ${sample[name].length}`);
  }
  return { N, D };
}

const checkedBias = new WeakMap<Float32Array, number>();

/** -Infinity masks a token. A bias is looked through once and remembered: it is as long as the vocabulary. */
function checkBias(bias: Float32Array, vocabSize: number): void {
  if (bias.length !== vocabSize)
    throw new InputError(`head: bias: expected ${vocabSize} numbers, one an id, got ${bias.length}`);
  let bad = checkedBias.get(bias);
  if (bad === undefined) {
    bad = bias.findIndex((x) => !(x < Infinity));
    checkedBias.set(bias, bad);
  }
  if (bad >= 0) throw new InputError(`head: bias holds ${bias[bad]} at id ${bad}`);
}

/** @throws InputError naming the row of the first NaN or infinity */
export function checkFinite(what: string, data: Float32Array, width: number): void {
  for (let i = 0; i < data.length; i++)
    if (!Number.isFinite(data[i]))
      throw new InputError(`${what}: row ${Math.floor(i / width)} holds ${data[i]} at column ${i % width}`);
}

function checkRange(what: string, ids: ArrayLike<number>, end: number, kind: string): void {
  for (let i = 0; i < ids.length; i++)
    if (!(Number.isInteger(ids[i]) && ids[i] >= 0 && ids[i] < end))
      throw new InputError(`${what}: ${kind} ${ids[i]} (at ${i}) is not in [0, ${end})`);
}
