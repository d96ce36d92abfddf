import { InputError } from "../../errors.js";
import type { Tokenizer } from "../../model/tokenizer/tokenizer.js";
import { type Batches, IGNORE } from "../data/batches.js";
import type { Trainer } from "../trainer/trainer.js";
import { tokenBytes } from "./token-bytes.js";

/** A validation's result. */
export interface Validation {
  /** Mean −ln p of the predicted tokens, nats. */
  readonly loss: number;
  /** e^loss */
  readonly perplexity: number;
  /** Σ −log2 p of all predicted tokens, ends of text among them, over the bytes of the text that they stand for. */
  readonly bitsPerByte: number;
}

/** Reads the validation text with a model as it is. */
export class Validator {
  /** UTF-8 bytes of each id's text; special tokens stand for none. */
  private readonly bytes: Int32Array;

  /** @param batches of a validation, spread evenly over the text; 0: all */
  constructor(
    private readonly trainer: Trainer,
    tokenizer: Tokenizer,
    private readonly data: Batches,
    private readonly batches: number,
  ) {
    const { head } = trainer.model;
    this.bytes = tokenBytes(tokenizer, head.vocabSize).map((bytes, id) =>
      tokenizer.specialIds.has(id) ? 0 : bytes,
    );
  }

  /** @throws InputError when the model's answer is not finite */
  async run(onTokens?: (done: number) => void): Promise<Validation> {
    let [sum, predicted, bytes] = [0, 0, 0];
    for await (const batch of this.data.inOrder(this.batches === 0 ? Infinity : this.batches)) {
      const answer = await this.trainer.evaluate(batch);
      sum += answer.sum;
      predicted += answer.predicted;
      for (const target of batch.targets) if (target !== IGNORE) bytes += this.bytes[target];
      onTokens?.(predicted);
    }
    const loss = sum / predicted;
    const perplexity = Math.exp(loss);
    if (!Number.isFinite(perplexity))
      throw new InputError(`validation: the loss is ${loss}; take a lower learning rate`);
    if (bytes === 0) throw new InputError("validation: the text has no bytes to count bits by");
    return { loss, perplexity, bitsPerByte: sum / Math.LN2 / bytes };
  }
}
