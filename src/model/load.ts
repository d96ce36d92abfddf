import { bodyMatrices, uploadBody, widenSpec } from "../body/upload.js";
import { checkFields, InputError, throwIfAborted } from "../errors.js";
import { LinearHead } from "../head/linear.js";
import type { Device, Matrix } from "../kernels/device.js";
import { rowBytes } from "../kernels/format.js";
import { openDevice } from "../kernels/open.js";
import { Embedding } from "../vocab/embedding.js";
import { findPadding, type Padding, trimBias } from "../vocab/padding.js";
import { findTying, type Tying } from "../vocab/tying.js";
import { VocabMatrix } from "../vocab/vocab-matrix.js";
import { checkFits, weightLimit } from "./fits.js";
import { countParameters, type Parameters, storedFormats } from "./info.js";
import { type OpenModel, openModel } from "./open.js";
import { Runner } from "./runner.js";
import type { LoadOptions, ModelFiles, ModelInfo, Progress } from "./types.js";

/** The vocabulary matrices on a device; when tied they are one and the same. */
interface Vocabularies {
  readonly embedding: VocabMatrix;
  readonly head: VocabMatrix;
}

/** What a model's Hugging Face folder holds beside the numbers of its weights. */
export interface StoredFolder {
  /** Its files but the weights, by name: config.json, tokenizer.json, … */
  readonly texts: ReadonlyMap<string, string>;
  /** Its tensors' shapes, by name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** The head's bias as it was read, that of the padding's rows with it. */
  readonly headBias: Float32Array | undefined;
}

/** A loaded model's parts, of which `LanguageModel` is made. */
export interface ModelParts extends Pick<OpenModel, "name" | "generation" | "tokenizer"> {
  readonly device: Device;
  /** Whether the device was opened for this model and ends with it. */
  readonly ownsDevice: boolean;
  readonly runner: Runner;
  readonly head: LinearHead;
  /** Everything `info` says that does not change. */
  readonly facts: Omit<ModelInfo, "memory" | "device">;
  readonly loadMs: number;
  /** Undefined unless the model came from a Hugging Face folder and its matrices are float32. */
  readonly folder: StoredFolder | undefined;
}

/** Loads a model's weights onto a device. @throws InputError, AbortError */
export async function loadModel(files: ModelFiles, options: LoadOptions): Promise<ModelParts> {
  checkFiles(files);
  checkOptions(options);
  const start = performance.now();
  throwIfAborted(options.signal);
  options.onProgress?.({ stage: "open", done: 0, total: 0 });
  const parts = await placeModel(await openModel(files, options.weights), options);
  return { ...parts, loadMs: performance.now() - start };
}

/**
 * Copies an open model's weights onto a device and closes its checkpoint.
 * @param untie embedding and head stay two matrices although their numbers are equal, so that one can change alone
 * @throws InputError, AbortError
 */
export async function placeModel(
  opened: OpenModel,
  options: LoadOptions,
  untie = false,
): Promise<ModelParts> {
  const start = performance.now();
  const { signal } = options;
  const model = options.weights === "float32" ? { ...opened, spec: widenSpec(opened.spec) } : opened;
  const given = typeof options.device === "object" ? options.device : undefined;
  let own: Device | undefined;
  try {
    if (!given) own = await openOwn(options);
    const device = (given ?? own)!;
    const { spec, tokenizer } = model;
    const { embedding, head } = spec;
    const tying =
      untie && head.weight
        ? { tied: false, how: `${embedding.name} and ${head.name} are kept apart` }
        : await findTying(
            { name: embedding.name, source: embedding.table },
            head.weight && { name: head.name!, source: head.weight },
            head.names,
            signal,
          );
    const padding = findPadding(embedding.table.rows, tokenizer?.vocabSize, options.padded === "keep");
    const { vocab, body } = await upload(model, device, tying, padding, options);
    const runner = new Runner(device, body, new Embedding(vocab.embedding, embedding.scale));
    const linear = new LinearHead(device, {
      matrix: vocab.head.matrix,
      vocabSize: padding.vocabSize,
      bias: trimBias(head.bias, padding.vocabSize),
      scale: head.scale,
      softcap: head.softcap,
    });
    return {
      name: model.name,
      generation: model.generation,
      tokenizer,
      device,
      ownsDevice: given === undefined,
      runner,
      head: linear,
      facts: facts(model, tying, padding, countParameters(spec, tying.tied), linear.formula),
      loadMs: performance.now() - start,
      folder: folderOf(model),
    };
  } catch (error) {
    await own?.close();
    throw error;
  } finally {
    await model.checkpoint.close();
  }
}

/** Names and shapes alone: the checkpoint's own tensors may hold all of its numbers. */
function folderOf({ texts, checkpoint, spec }: OpenModel): StoredFolder | undefined {
  if (!texts) return undefined;
  const shapes = new Map([...checkpoint.tensors].map(([name, { shape }]) => [name, shape]));
  return { texts, shapes, headBias: spec.head.bias };
}

/** What calls from JavaScript may get wrong; a browser has no paths. */
function checkFiles(files: ModelFiles): void {
  const given = Object(files) as Record<string, unknown>;
  if (typeof given.open === "function" || typeof given.read === "function") return;
  const what = typeof files === "string" ? `the path ${JSON.stringify(files)}` : String(files);
  throw new InputError(
    `load: expected a model's files, got ${what}: give a path (in Node), blobFiles or memoryFiles of a folder, or blobSource or bytesSource of a .gguf file`,
  );
}

function checkOptions(options: LoadOptions): void {
  checkFields("load", options, ["device", "threads", "padded", "weights", "signal", "onProgress"]);
  const { padded = "mask", weights = "stored", device, threads } = options;
  if (padded !== "mask" && padded !== "keep")
    throw new InputError(`padded: expected mask or keep, got ${JSON.stringify(padded)}`);
  if (weights !== "stored" && weights !== "float32")
    throw new InputError(`weights: expected stored or float32, got ${JSON.stringify(weights)}`);
  if (typeof device === "object" && threads !== undefined)
    throw new InputError("threads: an open device was given, whose threads are running; give one of the two");
}

function openOwn({ device = "auto", threads }: LoadOptions): Promise<Device> {
  return openDevice({ device: device as "auto" | "wasm" | "reference", threads });
}

/** Copies the weights to the device: straight from the file, one matrix after the other. */
async function upload(
  { spec }: OpenModel,
  device: Device,
  tying: Tying,
  { vocabSize }: Padding,
  { signal, onProgress }: LoadOptions,
): Promise<{ vocab: Vocabularies; body: Awaited<ReturnType<typeof uploadBody>> }> {
  const untied = tying.tied ? undefined : spec.head.weight;
  const sources = [spec.embedding.table, ...(untied ? [untied] : []), ...bodyMatrices(spec.body)];
  checkFits(device, sources, await weightLimit(device));
  const stored = ({ type, rows, cols }: Pick<Matrix, "type" | "rows" | "cols">) =>
    rows * rowBytes(type, cols);
  const total = sources.reduce((sum, source) => sum + stored(source), 0);
  let done = 0;
  const report = (stage: Progress["stage"]) => onProgress?.({ stage, done, total });
  const onMatrix = (matrix: Matrix) => {
    done += stored(matrix);
    report("weights");
  };
  report("weights");
  const held: Matrix[] = [];
  try {
    const vocabulary = async (source: typeof spec.embedding.table) => {
      const vocab = await VocabMatrix.load(device, source, { vocabSize, signal });
      held.push(vocab.matrix);
      onMatrix(vocab.matrix);
      return vocab;
    };
    const embedding = await vocabulary(spec.embedding.table);
    const head = untied ? await vocabulary(untied) : embedding;
    const body = await uploadBody(spec.body, device, { signal, onMatrix });
    report("ready");
    return { vocab: { embedding, head }, body };
  } catch (error) {
    for (const matrix of held) matrix.free();
    throw error;
  }
}

function facts(
  model: OpenModel,
  tying: Tying,
  padding: Padding,
  counts: Parameters,
  formula: string,
): ModelParts["facts"] {
  const { spec, checkpoint, tokenizer, generation } = model;
  const { body } = spec;
  const attention = body.layers[0].attention;
  return {
    name: model.name,
    format: checkpoint.format,
    family: spec.family,
    architecture: model.architecture,
    rows: spec.embedding.table.rows,
    ...padding,
    tokenizerSize: tokenizer?.vocabSize,
    hiddenSize: body.hiddenSize,
    layers: body.layers.length,
    heads: attention.heads,
    kvHeads: attention.kvHeads,
    maxPositions: body.maxPositions,
    ...counts,
    tied: tying.tied,
    howTied: howTied(tying, spec.claimsTied),
    head: formula,
    formats: storedFormats(checkpoint),
    bosId: generation.bosId,
    eosIds: generation.eosIds,
  };
}

function howTied({ tied, how }: Tying, claims: boolean | undefined): string {
  if (claims === undefined || claims === tied) return how;
  return `${how}; the config's tie_word_embeddings (${claims}, stated or by default) says otherwise`;
}
