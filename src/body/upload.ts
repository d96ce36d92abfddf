import type { Device, Matrix, MatrixSource } from "../kernels/device.js";
import { float32Source } from "../model/formats/sources.js";
import type { BodySpec, LayerSpec, LinearSpec, ModelSpec } from "./spec.js";

/** Options of `uploadBody`. */
export interface UploadOptions {
  readonly signal?: AbortSignal;
  /** Called after each matrix with the bytes that it takes on the device. */
  readonly onMatrix?: (matrix: Matrix) => void;
}

/** Every matrix that a body reads, each once (layers may share weights), in the order in which they are uploaded. */
export function bodyMatrices<W>(spec: BodySpec<W>): W[] {
  const matrices = new Set<W>();
  if (spec.positions) matrices.add(spec.positions.table);
  for (const { attention, mlp } of spec.layers) {
    for (const { weight } of attention.qkv) matrices.add(weight);
    matrices.add(attention.output.weight);
    if (mlp.gate) matrices.add(mlp.gate.weight);
    matrices.add(mlp.up.weight).add(mlp.down.weight);
  }
  return [...matrices];
}

/**
 * Copies a body's matrices to a device and gives the same spec with the device's matrices in their places.
 * What was copied is freed again when one of them fails.
 * @throws InputError when a matrix holds NaN or infinity, or does not fit
 */
export async function uploadBody(
  spec: BodySpec,
  device: Device,
  options: UploadOptions = {},
): Promise<BodySpec<Matrix>> {
  const placed = new Map<MatrixSource, Matrix>();
  try {
    for (const source of bodyMatrices(spec)) {
      const matrix = await device.matrix(source, options.signal);
      placed.set(source, matrix);
      options.onMatrix?.(matrix);
    }
  } catch (error) {
    for (const matrix of placed.values()) matrix.free();
    throw error;
  }
  return replaceMatrices(spec, (source) => placed.get(source)!);
}

/** The same model with its matrices read as float32: what training changes. */
export function widenSpec(spec: ModelSpec): ModelSpec {
  const wide = new Map<MatrixSource, MatrixSource>();
  const place = (source: MatrixSource) => {
    if (!wide.has(source)) wide.set(source, float32Source(source));
    return wide.get(source)!;
  };
  const { embedding, head, body } = spec;
  return {
    ...spec,
    body: replaceMatrices(body, place),
    embedding: { ...embedding, table: place(embedding.table) },
    head: { ...head, weight: head.weight && place(head.weight) },
  };
}

/** The same body with each matrix replaced by `place(matrix)`. */
function replaceMatrices<A, B>(spec: BodySpec<A>, place: (matrix: A) => B): BodySpec<B> {
  const linear = (spec: LinearSpec<A>): LinearSpec<B> => ({ ...spec, weight: place(spec.weight) });
  const layer = ({ arrangement, attention, mlp }: LayerSpec<A>): LayerSpec<B> => ({
    arrangement,
    attention: { ...attention, qkv: attention.qkv.map(linear), output: linear(attention.output) },
    mlp: { ...mlp, gate: mlp.gate && linear(mlp.gate), up: linear(mlp.up), down: linear(mlp.down) },
  });
  return {
    ...spec,
    positions: spec.positions && { ...spec.positions, table: place(spec.positions.table) },
    layers: spec.layers.map(layer),
  };
}
