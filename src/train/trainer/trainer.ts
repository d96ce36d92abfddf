import { bodyBuffers, bodyProgram } from "../../body/transformer.js";
import { InputError } from "../../errors.js";
import type { Program } from "../../kernels/op.js";
import { sumOfSquares } from "../../kernels/reference/squares.js";
import type { DropoutDraw, Gradients, Tape } from "../../kernels/tape.js";
import type { LanguageModel } from "../../model/language-model.js";
import { crossEntropy } from "../cross-entropy.js";
import type { Batch } from "../data/batches.js";
import { clipFactor } from "../optimizers/clip.js";
import type { OptimizerState } from "../optimizers/optimizer.js";
import { checkTensors, sizeOf } from "../optimizers/parameter.js";
import { updatesOf } from "../optimizers/updates.js";
import { checkOptions, type TrainerOptions, trained } from "./options.js";
import type { ModelParameter } from "./parameters.js";
import { Slot, type StateTensor } from "./slot.js";

/** What one step gives. */
export interface TrainStep {
  /**
   * Mean loss of the predicted tokens, in nats, before the step's change: what is learnt from, with label smoothing and
   * z-loss where they are on.
   */
  readonly loss: number;
  /** Global L2 norm of the gradients before clipping. */
  readonly gradientNorm: number;
  /** Tokens predicted. */
  readonly predicted: number;
}

/** Sum of losses over a batch, without smoothing or z-loss. */
export interface Evaluated {
  /** Σ −ln p(target), nats. */
  readonly sum: number;
  readonly predicted: number;
}

/**
 * Trains a model where it stands on its device: forward, linear + cross-entropy, backward, clipping and an optimizer's
 * step. The model stays usable between steps: `model.generate` speaks as it has learnt so far. A step has the same bits
 * for any number of threads. `modelFiles` and, in Node, `saveModel` keep what it has learnt.
 */
export class Trainer {
  private readonly into: Gradients;
  private taken = 0;
  private queue: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly model: LanguageModel,
    /** A step's; `evaluate` runs the model's own, which drops nothing. */
    private readonly program: Program,
    private readonly options: Required<Omit<TrainerOptions, "optimizer">>,
    private readonly slots: readonly Slot[],
  ) {
    this.into = {
      matrices: new Map(slots.flatMap(({ matrix }) => (matrix ? [[matrix.value, matrix.gradient]] : []))),
      vectors: new Map(slots.flatMap(({ vector }) => (vector ? [[vector.value, vector.gradient]] : []))),
    };
  }

  /**
   * @param model of `randomModel`, or loaded with `weights: "float32"`; a GGUF file's can be trained, but not saved
   * @throws InputError for unknown options or values out of range, a model whose matrices are not float32, or one whose
   *   gradients and optimizer state do not fit the device; for `freeze: "body"` a model whose head is its embedding
   */
  static async create(model: LanguageModel, options: TrainerOptions = {}): Promise<Trainer> {
    const filled = checkOptions(options);
    const { optimizer = { name: "adamw" } } = options;
    const program = programOf(model, filled.dropout);
    const parameters = trained(model, filled.freeze);
    const updates = updatesOf(optimizer, parameters);
    const slots: Slot[] = [];
    try {
      for (const parameter of parameters)
        slots.push(await Slot.create(model.device, parameter, updates.get(parameter.name)!));
    } catch (error) {
      for (const slot of slots) slot.free();
      throw error;
    }
    return new Trainer(model, program, filled, slots);
  }

  /** Steps taken. */
  get steps(): number {
    return this.taken;
  }

  /** What is trained, by name. */
  get parameters(): readonly ModelParameter[] {
    return this.slots.map(({ parameter }) => parameter);
  }

  /**
   * One step on the mean loss of all tokens that the batches predict; several batches are one large one whose
   * activations never stand in memory together (gradient accumulation).
   * @param learningRate from 0
   * @throws InputError for batches that do not fit the model or predict nothing; when the loss or a gradient is not
   *   finite (nothing has changed then), or a parameter has left float32's range (all of them may have changed);
   *   AbortError (nothing has changed)
   */
  async step(batches: readonly Batch[], learningRate: number, signal?: AbortSignal): Promise<TrainStep> {
    const predicted = batches.reduce((sum, batch) => sum + batch.predicted, 0);
    if (predicted === 0) throw new InputError("Trainer.step: the batches predict no token");
    return this.alone(() => this.stepNow(batches, predicted, learningRate, signal));
  }

  private async stepNow(
    batches: readonly Batch[],
    predicted: number,
    learningRate: number,
    signal?: AbortSignal,
  ): Promise<TrainStep> {
    await this.clear();
    let loss = 0;
    for (const [i, batch] of batches.entries()) loss += await this.learn(batch, i, predicted, signal);
    const gradientNorm = await this.norm();
    const factor = clipFactor(gradientNorm, this.options.maxNorm);
    const step = this.taken + 1;
    await this.model.device.update(this.slots.flatMap((slot) => slot.onDevice(learningRate, step, factor)));
    for (const slot of this.slots) slot.onHost(learningRate, step, factor);
    await this.model.device.changed([...this.into.vectors.keys()]);
    this.taken = step;
    return { loss, gradientNorm, predicted };
  }

  /** What the model makes of a batch, without learning from it. @throws InputError, AbortError */
  async evaluate(batch: Batch, signal?: AbortSignal): Promise<Evaluated> {
    const tape = await this.record(this.model.runner.program, batch, undefined, signal);
    try {
      const { loss } = await crossEntropy(this.model.head, await this.hidden(tape), batch.targets, {
        reduction: "sum",
        signal,
      });
      return { sum: loss, predicted: batch.predicted };
    } finally {
      tape.free();
    }
  }

  /** What `restore` takes, to be read a tensor at a time. */
  states(): StateTensor[] {
    return this.slots.flatMap((slot) => slot.states());
  }

  /**
   * Goes on from a state: with the parameters as they were then, every later step has the bits that it would have had.
   * @throws InputError, before anything has changed, for tensors that are missing, unknown, of another length or not
   *   finite, or a number of steps that is none
   */
  async restore({ steps, tensors }: Pick<OptimizerState, "steps" | "tensors">): Promise<void> {
    if (!(Number.isSafeInteger(steps) && steps >= 0))
      throw new InputError(`Trainer.restore: steps: expected a whole number from 0, got ${steps}`);
    const lengths = new Map(
      this.slots.flatMap(({ parameter, stateNames }) =>
        stateNames.map((name) => [name, sizeOf(parameter)] as const),
      ),
    );
    checkTensors("Trainer.restore: state", tensors, lengths);
    for (const slot of this.slots) slot.checkMoments(tensors);
    await this.alone(async () => {
      for (const slot of this.slots) await slot.restore(this.model.device, tensors);
      await this.model.device.changed([...this.into.vectors.keys()]);
      this.taken = steps;
    });
  }

  /** Runs a task after the steps that are under way: two at once would add to the same gradients. */
  private alone<T>(task: () => Promise<T>): Promise<T> {
    const result = this.queue.then(task);
    this.queue = result.catch(() => undefined);
    return result;
  }

  /** Gives the memory of gradients and state back; the model stays. */
  free(): void {
    for (const slot of this.slots) slot.free();
  }

  private async clear(): Promise<void> {
    await this.model.device.zero([...this.into.matrices.values()]);
    for (const gradient of this.into.vectors.values()) gradient.fill(0);
  }

  private record(
    program: Program,
    batch: Batch,
    dropout: DropoutDraw | undefined,
    signal?: AbortSignal,
  ): Promise<Tape> {
    return this.model.device.record(program, {
      lengths: [...batch.segments],
      ids: batch.ids,
      dropout,
      recompute: this.options.recompute,
      signal,
    });
  }

  /**
   * Adds a batch's gradients.
   * @param index its place in the step
   * @returns its part of the mean loss over `predicted` tokens
   */
  private async learn(batch: Batch, index: number, predicted: number, signal?: AbortSignal): Promise<number> {
    const { head } = this.model;
    const { labelSmoothing, zLoss, freeze, dropout, seed } = this.options;
    const frozen = freeze === "body";
    const draw = dropout > 0 ? { seed, step: this.taken, batch: index } : undefined;
    const tape = await this.record(this.program, batch, draw, signal);
    try {
      const weight = this.into.matrices.get(head.weights.matrix);
      const { bias } = head.weights;
      const answer = await crossEntropy(head, await this.hidden(tape), batch.targets, {
        reduction: "sum",
        labelSmoothing,
        zLoss,
        gradOutput: 1 / predicted,
        gradients: { hidden: !frozen, weight, bias: bias !== undefined },
        signal,
      });
      const dBias = bias && this.into.vectors.get(bias);
      if (dBias) for (let i = 0; i < dBias.length; i++) dBias[i] += answer.bias![i];
      if (!frozen)
        await tape.backward({ buffer: bodyBuffers.hidden, gradient: answer.hidden! }, this.into, signal);
      return answer.loss / predicted;
    } finally {
      tape.free();
    }
  }

  /** What the body gives, [N, D]. @throws InputError when the model has diverged, naming what is not finite */
  private async hidden(tape: Tape): Promise<Float32Array> {
    const hidden = tape.output(bodyBuffers.hidden);
    const bad = hidden.find((x) => !Number.isFinite(x));
    if (bad === undefined) return hidden;
    const parameter = await this.notFinite();
    const what = parameter ? `${parameter} is not finite any more: ` : "";
    throw new InputError(`${what}the body's hidden states hold ${bad}: take a lower learning rate`);
  }

  /** The first trained parameter with a value that is not finite. */
  private async notFinite(): Promise<string | undefined> {
    const matrices = this.slots.filter(({ matrix }) => matrix);
    const squares = await this.model.device.squares(matrices.map(({ matrix }) => matrix!.value));
    const matrix = matrices.find((_, i) => !Number.isFinite(squares[i]));
    const vector = this.slots.find(({ vector }) => vector && !Number.isFinite(sumOfSquares(vector.value)));
    return (matrix ?? vector)?.parameter.name;
  }

  /** The global norm. @throws InputError naming the parameter whose gradient is not finite */
  private async norm(): Promise<number> {
    const matrices = this.slots.filter(({ matrix }) => matrix);
    const squares = await this.model.device.squares(matrices.map(({ matrix }) => matrix!.gradient));
    let sum = 0;
    for (const [i, { parameter }] of matrices.entries()) sum += finite(parameter.name, squares[i]);
    for (const { parameter, vector } of this.slots)
      if (vector) sum += finite(parameter.name, sumOfSquares(vector.gradient));
    return Math.sqrt(sum);
  }
}

/** What a step runs: the model's own program where it drops nothing. */
function programOf({ runner }: LanguageModel, dropout: number): Program {
  return dropout > 0 ? bodyProgram(runner.body, { embed: runner.embedding.op, dropout }) : runner.program;
}

function finite(name: string, squares: number): number {
  if (!Number.isFinite(squares))
    throw new InputError(`the gradient of ${name} is not finite; take a lower learning rate`);
  return squares;
}
