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
export type { Device, HeadWeights, KvCache, Matrix, MatrixSource } from "./kernels/device.js";
export type { StoredType } from "./kernels/format.js";
export { type DeviceOptions, openDevice } from "./kernels/open.js";
export type { ByteSource, Checkpoint, FileSet, TensorInfo } from "./model/formats/checkpoint.js";
export { blobFiles, blobSource, bytesSource, memoryFiles } from "./model/formats/files.js";
export { arraySource } from "./model/formats/sources.js";
export { LanguageModel } from "./model/language-model.js";
export { openTokenizer as loadTokenizer } from "./model/open.js";
export { Session } from "./model/session.js";
export { type DecodeOptions, type EncodeOptions, Tokenizer } from "./model/tokenizer/tokenizer.js";
export type * from "./model/types.js";
export type { SamplingOptions } from "./sampling/options.js";
export { ProcessedDistribution } from "./sampling/processed.js";
export { Embedding } from "./vocab/embedding.js";
export { findTying, type NamedMatrix, type Tying } from "./vocab/tying.js";
export { VocabMatrix, type VocabMatrixOptions } from "./vocab/vocab-matrix.js";
