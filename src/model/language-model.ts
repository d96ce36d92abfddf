import type { Device } from "../kernels/device.js";
import type {
  CallOptions,
  Generated,
  GenerateOptions,
  HiddenOptions,
  HiddenStates,
  LoadOptions,
  ModelInfo,
  ModelLocation,
  Piece,
  Prompt,
  Score,
  ScoreOptions,
} from "./types.js";

const unwritten = (): never => {
  throw new Error("skeleton: the body of this method has not landed yet");
};

/** Skeleton of the final class: the signatures are the contract. `Distribution`, `LinearHead`, `Tokenizer` as they land. */
export class LanguageModel {
  static async load(_path: ModelLocation, _options: LoadOptions = {}): Promise<LanguageModel> {
    return unwritten();
  }
  declare readonly name: string;
  /** Undefined when the checkpoint has none. */
  declare readonly tokenizer: unknown;
  declare readonly head: unknown;
  declare readonly embedding: unknown;
  declare readonly device: Device;
  /** Context length. */
  declare readonly maxPositions: number;
  /** What generation_config.json says; `generate` uses it where no option says otherwise. */
  declare readonly generationDefaults: GenerateOptions;
  /** Milliseconds that `load` took. */
  declare readonly loadMs: number;
  info(): ModelInfo {
    return unwritten();
  }
  /** Ids with what the tokenizer adds (BOS by its config). */
  encode(_text: string): number[] {
    return unwritten();
  }
  /** Text of ids. */
  decode(_ids: ArrayLike<number>): string {
    return unwritten();
  }
  /** A prompt's ids, checked: not empty, in range, no longer than the context. @throws InputError */
  promptIds(_input: Prompt): number[] {
    return unwritten();
  }
  hidden(_input: Prompt, _options: HiddenOptions = {}): Promise<HiddenStates> {
    return unwritten();
  }
  /** Distribution after a prompt (`Distribution` of src/head); an array of prompts gives an array, in one packed call. */
  next(_input: Prompt, _options?: CallOptions): Promise<unknown>;
  next(_input: readonly Prompt[], _options?: CallOptions): Promise<unknown[]>;
  next(_input: Prompt | readonly Prompt[], _options: CallOptions = {}): Promise<unknown> {
    return unwritten();
  }
  generate(_input: Prompt, _options: GenerateOptions = {}): AsyncGenerator<Piece> {
    return unwritten();
  }
  generateAll(_input: Prompt, _options: GenerateOptions = {}): Promise<Generated> {
    return unwritten();
  }
  score(_input: Prompt, _options: ScoreOptions = {}): Promise<Score> {
    return unwritten();
  }
  close(): Promise<void> {
    return unwritten();
  }
}
