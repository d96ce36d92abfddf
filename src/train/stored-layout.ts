import { readHuggingFace } from "../body/families/index.js";
import type { BodySpec, LinearSpec, NormSpec, Vector } from "../body/spec.js";
import { InputError } from "../errors.js";
import type { MatrixSource } from "../kernels/device.js";
import type { Checkpoint } from "../model/formats/checkpoint.js";
import { checkRows } from "../model/formats/sources.js";

/** The parts of a model that hold parameters: a `ModelSpec`, or what was uploaded of one. */
export interface ParameterTree<W> {
  readonly body: BodySpec<W>;
  readonly embedding?: { readonly table: W };
  readonly head?: { readonly weight?: W; readonly bias?: Vector };
}

/** A matrix or a vector of a spec, and where in it: "layers.0.attention.qkv.1.weight". */
export interface SpecParameter<W> {
  readonly path: string;
  readonly value: W | Vector;
}

/**
 * Every matrix and vector of a spec in one fixed order, each once: what stands in two places has the first one's path.
 * Paths are those of the spec's fields; the body's have no prefix.
 */
export function specParameters<W>({ body, embedding, head }: ParameterTree<W>): SpecParameter<W>[] {
  const found: SpecParameter<W>[] = [];
  const seen = new Set<W | Vector>();
  const add = (path: string, value: W | Vector | undefined) => {
    if (value === undefined || seen.has(value)) return;
    seen.add(value);
    found.push({ path, value });
  };
  const weights = (path: string, part: LinearSpec<W> | NormSpec | undefined) => {
    add(`${path}.weight`, part?.weight);
    add(`${path}.bias`, part?.bias);
  };
  add("embedding.table", embedding?.table);
  add("positions.table", body.positions?.table);
  for (const [l, { attention, mlp }] of body.layers.entries()) {
    const at = `layers.${l}.`;
    for (const norm of ["normIn", "qNorm", "kNorm"] as const)
      weights(`${at}attention.${norm}`, attention[norm]);
    for (const [i, part] of attention.qkv.entries()) weights(`${at}attention.qkv.${i}`, part);
    weights(`${at}attention.output`, attention.output);
    for (const norm of ["normOut", "normSum"] as const) weights(`${at}attention.${norm}`, attention[norm]);
    for (const part of ["normIn", "gate", "up", "down", "normOut", "normSum"] as const)
      weights(`${at}mlp.${part}`, mlp[part]);
  }
  weights("finalNorm", body.finalNorm);
  add("head.weight", head?.weight);
  add("head.bias", head?.bias);
  return found;
}

/** The stored tensor that a parameter shows, and the way back to it. */
export interface StoredParameter {
  /** The parameter's, as `specParameters` names it. */
  readonly path: string;
  /** The tensor's, and its stored shape. */
  readonly name: string;
  readonly shape: readonly number[];
  /**
   * The parameter's numbers, row-major as the spec shows it, in the order and form in which the tensor is stored. Where
   * both are the same it gives `values` itself. A constant that a family adds to a vector is taken off again in float32:
   * of Gemma's norms p = 1 + w, p - 1 may differ from the w that was once read by half a unit in the last place of p, and
   * gives p again for p in [½, 2^24).
   * @throws InputError when their number is not the tensor's
   */
  toStored(values: Float32Array): Float32Array;
}

/** Numbers of a matrix that are read at a time. */
const CHUNK = 1 << 20;

/**
 * Finds, for each parameter of the spec that `readHuggingFace` makes of a config and a checkpoint, the tensor that it came
 * from and how to put it back. It knows no family: a family reads a checkpoint of the same names and shapes in which
 * numbers are their own places, and the spec shows where they went. Tensors that no parameter shows (GPT-2's masks) are
 * not in the answer.
 *
 * A head tensor that equals the embedding is a parameter here, "head.weight", although `LanguageModel` then keeps one
 * matrix for both.
 * @param config parsed `config.json`
 * @param checkpoint its vectors are read, its matrices only named
 * @returns by path, in the order of `specParameters`
 * @throws InputError for what `readHuggingFace` refuses; for a parameter that is more than its tensor's rows or columns in
 *   another order, or its numbers in another order and a constant in [-2, 2); for a tensor that is shown in part or twice
 */
export async function storedLayout(
  config: unknown,
  checkpoint: Checkpoint,
): Promise<ReadonlyMap<string, StoredParameter>> {
  return layoutBy(async (probe) => (await readHuggingFace(checkpoint.name, config, probe)).spec, checkpoint);
}

/** `storedLayout` for any way of reading a checkpoint. @param read gives the same spec for the same numbers */
export async function layoutBy(
  read: (checkpoint: Checkpoint) => Promise<ParameterTree<MatrixSource>>,
  checkpoint: Checkpoint,
): Promise<ReadonlyMap<string, StoredParameter>> {
  const names = [...checkpoint.tensors.keys()];
  const number = new Map(names.map((name, i) => [name, i]));
  // Two readings: vectors hold their indices in one, their tensor's number in the other.
  const places = new Probe(checkpoint, (_, i) => i);
  const tensors = new Probe(checkpoint, (name) => number.get(name)!);
  const parameters = specParameters(await read(places));
  const others = specParameters(await read(tensors));
  const layout = new Map<string, StoredParameter>();
  const paths = new Map<string, string>();
  for (const [k, { path, value }] of parameters.entries()) {
    const found =
      value instanceof Float32Array
        ? vectorLayout(path, value, others[k].value as Vector, names, checkpoint)
        : await matrixLayout(path, value, places);
    const before = paths.get(found.name);
    if (before !== undefined) throw cannot(path, `shows tensor ${found.name}, which ${before} shows too`);
    paths.set(found.name, path);
    layout.set(path, found);
  }
  return layout;
}

/** A checkpoint of another's names and shapes whose numbers say where they stand. */
class Probe implements Checkpoint {
  readonly format;
  readonly name;
  readonly tensors;
  /** Names of the matrices that have been read. */
  readonly touched = new Set<string>();

  /** @param mark what stands at index i of a vector, before `toMark` */
  constructor(
    private readonly checkpoint: Checkpoint,
    private readonly mark: (name: string, i: number) => number,
  ) {
    this.format = checkpoint.format;
    this.name = checkpoint.name;
    this.tensors = checkpoint.tensors;
  }

  /** Each number is its index in the tensor, as 32 bits: families move a matrix's numbers and never change them. */
  matrix(name: string, rows: number, cols: number): MatrixSource {
    const label = this.checkpoint.matrix(name, rows, cols).name;
    if (rows * cols > 2 ** 32)
      throw new InputError(`${label}: ${rows} × ${cols} numbers are more than a layout is found for`);
    const source: MatrixSource = {
      name: label,
      rows,
      cols,
      type: "f32",
      read: async (first, count) => {
        checkRows(source, first, count);
        this.touched.add(name);
        const indices = new Uint32Array(count * cols);
        for (let i = 0; i < indices.length; i++) indices[i] = first * cols + i;
        return new Uint8Array(indices.buffer);
      },
    };
    return source;
  }

  async vector(name: string, length: number): Promise<Float32Array> {
    if (length > MOST_MARKS)
      throw new InputError(`${name}: ${length} numbers are more than a layout is found for (${MOST_MARKS})`);
    const numbers = await this.checkpoint.vector(name, length);
    return numbers.map((_, i) => toMark(this.mark(name, i)));
  }

  async close(): Promise<void> {}
}

/**
 * Marks lie 4 apart, so that a number tells its mark and a constant in [-2, 2) that was added. None is 0: a factor
 * would not show on it. A float32 holds them and some fraction.
 */
const MOST_MARKS = 2 ** 20;
const toMark = (n: number): number => 4 * (n + 1);
const fromMark = (x: number): number => Math.round(x / 4) - 1;

function vectorLayout(
  path: string,
  places: Vector,
  tensors: Vector,
  names: readonly string[],
  { tensors: infos }: Checkpoint,
): StoredParameter {
  const which = fromMark(tensors[0]);
  const offset = tensors[0] - toMark(which);
  const name = names[which];
  const order = Int32Array.from(places, fromMark);
  if (
    name === undefined ||
    !order.every((from, i) => places[i] === toMark(from) + offset && tensors[i] === tensors[0])
  )
    throw cannot(path, "is more than the numbers of one tensor in some order and a constant");
  const { shape } = infos.get(name)!;
  checkWhole(path, name, order, count(shape));
  const isPlain = offset === 0 && isIdentity(order);
  return parameter(path, name, shape, (values) => {
    if (isPlain) return values;
    const out = new Float32Array(values.length);
    for (let i = 0; i < order.length; i++) out[order[i]] = values[i] - offset;
    return out;
  });
}

async function matrixLayout(path: string, view: MatrixSource, probe: Probe): Promise<StoredParameter> {
  probe.touched.clear();
  const { rows, cols } = view;
  const head = await indicesOf(view, 0, 1);
  const name = [...probe.touched].at(0);
  const shape = name === undefined ? [] : probe.tensors.get(name)!.shape;
  const [storedRows, storedCols] = shape;
  const step = cols > 1 ? head[1] - head[0] : undefined;
  const byRows = rows === storedRows && cols === storedCols && (step ?? 1) === 1;
  const byColumns =
    !byRows && rows === storedCols && cols === storedRows && (step ?? storedCols) === storedCols;
  const refuse = () => cannot(path, `is more than the rows or columns of tensor ${name} in some order`);
  if (name === undefined || !(byRows || byColumns)) throw refuse();

  const order = new Int32Array(rows);
  const chunk = Math.max(1, Math.floor(CHUNK / cols));
  for (let first = 0; first < rows; first += chunk) {
    const n = Math.min(chunk, rows - first);
    const indices = await indicesOf(view, first, n);
    for (let i = 0; i < n; i++) {
      const start = indices[i * cols];
      order[first + i] = byRows ? Math.floor(start / storedCols) : start;
      const from = byRows ? order[first + i] * storedCols : order[first + i];
      const stride = byRows ? 1 : storedCols;
      for (let j = 0; j < cols; j++) if (indices[i * cols + j] !== from + j * stride) throw refuse();
    }
  }
  if (probe.touched.size !== 1) throw refuse();
  checkWhole(path, name, order, byRows ? storedRows : storedCols);

  const isPlain = byRows && isIdentity(order);
  return parameter(path, name, shape, (values) => {
    if (isPlain) return values;
    const out = new Float32Array(values.length);
    if (byRows)
      for (let i = 0; i < rows; i++) out.set(values.subarray(i * cols, (i + 1) * cols), order[i] * cols);
    else
      for (let j = 0; j < cols; j++)
        for (let i = 0; i < rows; i++) out[j * rows + order[i]] = values[i * cols + j];
    return out;
  });
}

/** A stored parameter whose numbers are counted before they are put back. */
function parameter(
  path: string,
  name: string,
  shape: readonly number[],
  put: (values: Float32Array) => Float32Array,
): StoredParameter {
  const wanted = count(shape);
  return {
    path,
    name,
    shape,
    toStored(values) {
      if (values.length !== wanted)
        throw new InputError(
          `${path}: expected ${wanted} numbers, those of ${name} [${shape.join(", ")}], got ${values.length}`,
        );
      return put(values);
    },
  };
}

async function indicesOf(view: MatrixSource, first: number, rows: number): Promise<Uint32Array> {
  const bytes = await view.read(first, rows);
  // A view needs aligned bytes, and a part of another array may not be.
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return new Uint32Array(aligned.buffer, aligned.byteOffset, rows * view.cols);
}

/** @throws InputError unless `order` names each of `wanted` rows or numbers once */
function checkWhole(path: string, name: string, order: Int32Array, wanted: number): void {
  const distinct = new Set(order);
  if (distinct.size !== order.length || order.length !== wanted || order.some((n) => n < 0 || n >= wanted))
    throw cannot(path, `shows only a part of tensor ${name}, or a part of it twice`);
}

function isIdentity(order: Int32Array): boolean {
  return order.every((from, i) => from === i);
}

function count(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

function cannot(path: string, why: string): InputError {
  return new InputError(
    `${path}: ${why}, so that it can't be put back as it was stored: this model can't be saved after training`,
  );
}
