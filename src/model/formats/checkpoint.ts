import type { MatrixSource } from "../../kernels/device.js";
import type { StoredType } from "../../kernels/format.js";

/** Bytes that can be read in parts: a file, a Blob, a range of a server's answer. */
export interface ByteSource {
  readonly name: string;
  readonly size: number;
  /**
   * Bytes [start, end). Where `into` is given and long enough, they may be written there, and the result is then a view of
   * it: whoever reads much need not make an array for each part.
   * @throws InputError when the source is shorter
   */
  read(start: number, end: number, into?: Uint8Array): Promise<Uint8Array>;
  close?(): Promise<void>;
}

/** Named files: a folder on disk, files that a person dropped on a page. Names are relative, with "/" between parts. */
export interface FileSet {
  readonly name: string;
  /** Undefined when there is no such file. */
  open(path: string): Promise<ByteSource | undefined>;
  list(): Promise<string[]>;
}

export interface TensorInfo {
  readonly name: string;
  /** Row-major: [out, in] of a linear layer. */
  readonly shape: readonly number[];
  readonly type: StoredType;
}

/** A checkpoint's tensors, whatever the file format. */
export interface Checkpoint {
  readonly format: "safetensors" | "gguf";
  readonly name: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** A 2-dimensional tensor as a matrix source. @throws InputError when absent or not of the expected shape. */
  matrix(name: string, rows: number, cols: number): MatrixSource;
  /** A tensor of any shape and type as float32. @throws InputError when absent, of another length, or not finite. */
  vector(name: string, length: number): Promise<Float32Array>;
  close(): Promise<void>;
}
