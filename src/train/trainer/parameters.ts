import type { Matrix } from "../../kernels/device.js";
import type { LanguageModel } from "../../model/language-model.js";
import type { Parameter, ParameterKind } from "../optimizers/parameter.js";
import { specParameters } from "../stored-layout.js";

/** A parameter of a loaded model, named by its path ("layers.0.mlp.up.weight"), and where its numbers stand. */
export interface ModelParameter extends Parameter {
  readonly value: Matrix | Float32Array;
}

/** Tables of which a row is a token or a position: no hidden layers, whatever their shape. */
const TABLES = new Set(["embedding.table", "positions.table", "head.weight"]);

/** Every parameter of a model, each once: a head that is the embedding has the embedding's name. */
export function modelParameters({ runner, embedding, head }: LanguageModel): ModelParameter[] {
  const { matrix, bias } = head.weights;
  const tree = {
    body: runner.body,
    embedding: { table: embedding.vocab.matrix },
    head: { weight: matrix, bias },
  };
  return specParameters<Matrix>(tree).map(({ path, value }) => {
    if (value instanceof Float32Array) return { name: path, shape: [value.length], kind: "vector", value };
    const kind: ParameterKind = TABLES.has(path) ? "vocabulary" : "matrix";
    return { name: path, shape: [value.rows, value.cols], kind, value };
  });
}
