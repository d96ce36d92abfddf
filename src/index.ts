/** lmhead for any runtime: nothing here touches files, processes or the network. `node.ts` adds Node's paths. */
export { AbortError, InputError } from "./errors.js";
export type { Answer, Ask, AskSample, Top } from "./head/ask.js";
export {
  Distribution,
  type DistributionContext,
  type RankedToken,
  type TokenDistribution,
} from "./head/distribution.js";
export { type HeadArrays, type HeadFormula, LinearHead, type RandomHead } from "./head/linear.js";
export type { Device, DeviceArray, HeadWeights, KvCache, Matrix, MatrixSource } from "./kernels/device.js";
export type { StoredType } from "./kernels/format.js";
export type { LossAnswer, LossGradients, LossQuery } from "./kernels/loss.js";
export { type DeviceOptions, openDevice } from "./kernels/open.js";
export type { MatrixUpdate } from "./kernels/optimize.js";
export type { Gradients, RecordCall, Tape } from "./kernels/tape.js";
export { exportGguf, type GgufExportOptions, type GgufExportType } from "./model/export-gguf.js";
export type { GgufExportInput } from "./model/export-gguf-input.js";
export type { ByteSource, Checkpoint, FileSet, TensorInfo } from "./model/formats/checkpoint.js";
export { blobFiles, blobSource, bytesSource, memoryFiles } from "./model/formats/files.js";
export { arraySource } from "./model/formats/sources.js";
export { LanguageModel } from "./model/language-model.js";
export { openTokenizer as loadTokenizer } from "./model/open.js";
export { Session } from "./model/session.js";
export { tokenizerFromJson } from "./model/tokenizer/from-files.js";
export {
  type DecodeOptions,
  type EncodeOptions,
  Tokenizer,
  type TokenizerJson,
} from "./model/tokenizer/tokenizer.js";
export type * from "./model/types.js";
export type { SamplingOptions } from "./sampling/options.js";
export { ProcessedDistribution } from "./sampling/processed.js";
export {
  type CrossEntropy,
  type CrossEntropyGradients,
  type CrossEntropyOptions,
  crossEntropy,
  type Reduction,
} from "./train/cross-entropy.js";
export { type Batch, Batches, type BatchOptions, IGNORE } from "./train/data/batches.js";
export { type IdSource, memoryIds } from "./train/data/ids.js";
export { type DataSplit, type Span, type SplitOptions, splitIds } from "./train/data/split.js";
export { type InitialModel, initialModel } from "./train/initial/initial-model.js";
export { type RandomModelOptions, randomModel } from "./train/initial/random-model.js";
export type { InitialFamily, ModelShape } from "./train/initial/shape.js";
export { type Metric, type Metrics, parseMetrics } from "./train/metrics.js";
export { AdamW, type AdamWOptions } from "./train/optimizers/adamw.js";
export { clipByGlobalNorm } from "./train/optimizers/clip.js";
export type { Grouping } from "./train/optimizers/groups.js";
export { Lion, type LionOptions } from "./train/optimizers/lion.js";
export { Muon, type MuonOptions } from "./train/optimizers/muon.js";
export type { OptimizerState } from "./train/optimizers/optimizer.js";
export type { Parameter, ParameterKind, Tensors } from "./train/optimizers/parameter.js";
export { Sgd, type SgdOptions } from "./train/optimizers/sgd.js";
export { type OptimizerOptions, updatesOf } from "./train/optimizers/updates.js";
export { modelFiles } from "./train/saved-model.js";
export { checkSchedule, learningRate, type Schedule } from "./train/schedules.js";
export type { Targets } from "./train/targets.js";
export { type TrainBpeOptions, type TrainedBpe, trainBpe } from "./train/tokenizer/train-bpe.js";
export type { TrainerOptions } from "./train/trainer/options.js";
export type { ModelParameter } from "./train/trainer/parameters.js";
export { type Evaluated, Trainer, type TrainStep } from "./train/trainer/trainer.js";
export { Embedding } from "./vocab/embedding.js";
export { findTying, type NamedMatrix, type Tying } from "./vocab/tying.js";
export { VocabMatrix, type VocabMatrixOptions } from "./vocab/vocab-matrix.js";
