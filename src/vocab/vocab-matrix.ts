import { InputError } from "../errors.js";
import type { Device, Matrix, MatrixSource } from "../kernels/device.js";

/** Options of `VocabMatrix`. */
export interface VocabMatrixOptions {
  /** Tokens: rows from here on are padding, which no head sees. Default: all rows. */
  readonly vocabSize?: number;
}

/**
 * The only owner of vocabulary-sized weights: a matrix [V, D] on a device, one row a token. An `Embedding` reads its
 * rows, a head multiplies by it; when both are the same matrix they hold the same `VocabMatrix`.
 */
export class VocabMatrix {
  /** Ids are in [0, vocabSize). */
  readonly vocabSize: number;

  /** @throws InputError when `vocabSize` is not a whole number in [1, rows] */
  constructor(
    readonly matrix: Matrix,
    options: VocabMatrixOptions = {},
  ) {
    const { vocabSize = matrix.rows } = options;
    if (!Number.isInteger(vocabSize) || vocabSize < 1 || vocabSize > matrix.rows)
      throw new InputError(
        `vocabulary size ${vocabSize}: expected a whole number from 1 to ${matrix.rows}, the rows of ${matrix.name}`,
      );
    this.vocabSize = vocabSize;
  }

  /** Copies a stored matrix [V, D] to a device. @throws InputError as `Device.matrix` does */
  static async load(
    device: Device,
    source: MatrixSource,
    options: VocabMatrixOptions & { readonly signal?: AbortSignal } = {},
  ): Promise<VocabMatrix> {
    const matrix = await device.matrix(source, options.signal);
    try {
      return new VocabMatrix(matrix, { vocabSize: options.vocabSize });
    } catch (error) {
      matrix.free();
      throw error;
    }
  }

  /** Rows of the matrix, padding included (V). */
  get rows(): number {
    return this.matrix.rows;
  }

  /** Length of a row (D). */
  get dim(): number {
    return this.matrix.cols;
  }

  /** Rows that are padding. */
  get paddedRows(): number {
    return this.rows - this.vocabSize;
  }

  /** @throws InputError naming the first id that is not a whole number in [0, vocabSize) */
  checkIds(ids: ArrayLike<number>): void {
    for (let i = 0; i < ids.length; i++)
      if (!Number.isInteger(ids[i]) || ids[i] < 0 || ids[i] >= this.vocabSize)
        throw new InputError(
          `id ${ids[i]} at position ${i}: expected a whole number from 0 to ${this.vocabSize - 1}, the model's vocabulary`,
        );
  }

  /** Gives the memory back; the embedding and heads that hold it end with it. */
  free(): void {
    this.matrix.free();
  }
}
