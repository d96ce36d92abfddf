import type { EmbedOp } from "../kernels/op.js";
import type { VocabMatrix } from "./vocab-matrix.js";

/** id → vector: rows of a vocabulary matrix, times a scale (√D for Gemma; 1 for most). */
export class Embedding {
  constructor(
    readonly vocab: VocabMatrix,
    readonly scale: number = 1,
  ) {}

  /** Length of a vector (D). */
  get dim(): number {
    return this.vocab.dim;
  }

  /** The fields of the op with which a program turns ids into vectors. */
  get op(): Pick<EmbedOp, "table" | "scale"> {
    return { table: this.vocab.matrix, scale: this.scale };
  }

  /** Vectors of ids, [ids.length, D]. @throws InputError for an id outside the vocabulary */
  async vectors(ids: ArrayLike<number>): Promise<Float32Array> {
    this.vocab.checkIds(ids);
    const vectors = await this.vocab.matrix.gather(ids);
    if (this.scale !== 1) for (let i = 0; i < vectors.length; i++) vectors[i] *= this.scale;
    return vectors;
  }
}
