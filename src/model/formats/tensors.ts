import { InputError } from "../../errors.js";
import type { MatrixSource } from "../../kernels/device.js";
import { BLOCKS, rowBytes, type StoredType } from "../../kernels/format.js";
import { widen } from "../../kernels/reference/widen.js";
import type { ByteSource, Checkpoint, TensorInfo } from "./checkpoint.js";
import { checkRows } from "./sources.js";

/** What the two formats share: named byte ranges of files, given as matrices and vectors. */

/** A tensor and where its bytes are. */
export interface StoredTensor extends TensorInfo {
  readonly source: ByteSource;
  /** First byte in the source, and number of bytes. */
  readonly start: number;
  readonly bytes: number;
}

/** Numbers in a tensor of this shape. @throws InputError when a dimension is no whole number or they overflow 2^53. */
export function countOf(what: string, shape: readonly number[]): number {
  let count = 1;
  for (const n of shape) {
    if (!Number.isSafeInteger(n) || n < 0)
      throw new InputError(`${what}: a dimension is ${n}; expected a whole number of 0 or more`);
    count *= n;
    if (!Number.isSafeInteger(count))
      throw new InputError(`${what}: shape [${shape.join(", ")}] is impossibly large`);
  }
  return count;
}

/** Bytes of a stored tensor. @throws InputError for an impossible shape, or rows that are not whole blocks. */
export function tensorBytes(what: string, type: StoredType, shape: readonly number[]): number {
  const count = countOf(what, shape);
  const { size, bytes } = BLOCKS[type];
  const cols = shape.length > 0 ? shape[shape.length - 1] : 1;
  if (cols % size !== 0)
    throw new InputError(`${what}: rows of ${cols} numbers are not whole ${type} blocks of ${size}`);
  const total = (count / size) * bytes;
  if (!Number.isSafeInteger(total))
    throw new InputError(`${what}: shape [${shape.join(", ")}] is impossibly large`);
  return total;
}

/**
 * Refuses tensors whose bytes leave [0, limit) or overlap.
 * @throws InputError naming the tensor
 */
export function checkSpans(
  file: string,
  spans: readonly { readonly name: string; readonly start: number; readonly bytes: number }[],
  limit: number,
): void {
  for (const { name, start, bytes } of spans)
    if (start + bytes > limit)
      throw new InputError(
        `${file}: tensor ${name} takes bytes ${start} to ${start + bytes}, but the file has ${limit}; is it cut short?`,
      );
  const sorted = spans.filter(({ bytes }) => bytes > 0).sort((a, b) => a.start - b.start);
  for (let i = 1; i < sorted.length; i++)
    if (sorted[i].start < sorted[i - 1].start + sorted[i - 1].bytes)
      throw new InputError(`${file}: tensors ${sorted[i - 1].name} and ${sorted[i].name} overlap`);
}

/** A checkpoint over stored tensors. `others` names tensors that stand in the file in a type that nobody reads. */
export class StoredCheckpoint implements Checkpoint {
  constructor(
    readonly format: "safetensors" | "gguf",
    readonly name: string,
    readonly tensors: ReadonlyMap<string, StoredTensor>,
    private readonly others: ReadonlyMap<string, string>,
    private readonly sources: readonly ByteSource[],
  ) {}

  matrix(name: string, rows: number, cols: number): MatrixSource {
    const tensor = this.find(name);
    const [r, c] = tensor.shape;
    const label = `${name} in ${tensor.source.name}`;
    if (tensor.shape.length !== 2 || r !== rows || c !== cols)
      throw new InputError(
        `${label}: expected shape [${rows}, ${cols}], got [${tensor.shape.join(", ")}]; does the config belong to these weights?`,
      );
    const bytes = rowBytes(tensor.type, cols);
    const source: MatrixSource = {
      name: label,
      rows,
      cols,
      type: tensor.type,
      read(first, count, into) {
        checkRows(source, first, count);
        return tensor.source.read(tensor.start + first * bytes, tensor.start + (first + count) * bytes, into);
      },
    };
    return source;
  }

  async vector(name: string, length: number): Promise<Float32Array> {
    const tensor = this.find(name);
    const label = `${name} in ${tensor.source.name}`;
    const count = countOf(label, tensor.shape);
    if (count !== length)
      throw new InputError(
        `${label}: expected ${length} numbers, got shape [${tensor.shape.join(", ")}]; does the config belong to these weights?`,
      );
    const stored = await tensor.source.read(tensor.start, tensor.start + tensor.bytes);
    const numbers = widen(tensor.type, stored, count);
    const bad = numbers.findIndex((x) => !Number.isFinite(x));
    if (bad >= 0) throw new InputError(`${label}: number ${bad} is ${numbers[bad]}; the weights are damaged`);
    return numbers;
  }

  async close(): Promise<void> {
    await Promise.all(this.sources.map((source) => source.close?.()));
  }

  private find(name: string): StoredTensor {
    const tensor = this.tensors.get(name);
    if (tensor) return tensor;
    const other = this.others.get(name);
    if (other !== undefined)
      throw new InputError(
        `${this.name}: tensor ${name} is stored as ${other}, which holds no weights; supported are F32, F16 and BF16`,
      );
    throw new InputError(`${this.name}: has no tensor ${name}${nearest(name, this.tensors.keys())}`);
  }
}

/** A hint at the names that end alike: most misses are a prefix. */
function nearest(name: string, names: Iterable<string>): string {
  const tail = name.split(".").slice(-2).join(".");
  for (const other of names) if (other.endsWith(tail)) return ` (it has ${other})`;
  return "";
}
