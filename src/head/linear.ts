import { checkFields, InputError } from "../errors.js";
import type { Device, HeadWeights, MatrixSource } from "../kernels/device.js";
import { type DeviceOptions, openDevice } from "../kernels/open.js";
import { type Answer, type Ask, type CallOptions, toAnswer, toQuery } from "./ask.js";

/** The formula around a head's product: logits = softcap(scale · (hidden · Wᵀ + b)). */
export interface HeadFormula {
  /** [V] */
  readonly bias?: Float32Array;
  /** Default 1. */
  readonly scale?: number;
  /** c in c·tanh(x / c), above 0; default: no cap. */
  readonly softcap?: number;
}

/** Arrays of a head, row-major. */
export interface HeadArrays extends HeadFormula {
  /** [V, D] */
  readonly weight: Float32Array;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** Where to run: an open device, a device's name, or options of one. Default: { device: "auto" }. */
  readonly device?: Device | DeviceOptions | "auto" | "wasm" | "reference";
}

/** A head of random weights, as `nn.Linear(hiddenSize, vocabSize)` begins. */
export interface RandomHead extends Pick<HeadFormula, "scale" | "softcap"> {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** A whole number in [0, 2^32). */
  readonly seed: number;
  /** Whether it has a random bias; default true, as in nn.Linear. */
  readonly bias?: boolean;
  readonly device?: HeadArrays["device"];
}

/** The linear head: hidden states [N, D] to answers about logits [N, V], which it does not hold unless asked for them. */
export class LinearHead {
  readonly device: Device;
  readonly weights: HeadWeights;
  private readonly ownsDevice: boolean;

  /** From a matrix that is on a device already. */
  constructor(device: Device, weights: HeadWeights, ownsDevice = false) {
    this.device = device;
    this.weights = weights;
    this.ownsDevice = ownsDevice;
  }

  /** V: ids that the head answers about. */
  get vocabSize(): number {
    return this.weights.vocabSize;
  }
  /** D. */
  get hiddenSize(): number {
    return this.weights.matrix.cols;
  }
  /** The formula in words: "30 · tanh((0.5 · (h·Wᵀ + b)) / 30)" and its kin. */
  get formula(): string {
    const { bias, scale, softcap } = this.weights;
    let text = bias ? "h·Wᵀ + b" : "h·Wᵀ";
    if (scale !== 1) text = `${scale} · ${bias ? `(${text})` : text}`;
    return softcap === undefined ? text : `${softcap} · tanh((${text}) / ${softcap})`;
  }

  /**
   * A head from arrays.
   * @throws InputError when lengths do not fit vocabSize and hiddenSize, or a weight is NaN or infinite
   */
  static async fromArrays(arrays: HeadArrays): Promise<LinearHead> {
    checkFields("LinearHead.fromArrays", arrays, [
      "weight",
      "vocabSize",
      "hiddenSize",
      "bias",
      "scale",
      "softcap",
      "device",
    ]);
    const { weight, vocabSize, hiddenSize, bias } = arrays;
    size("vocabSize", vocabSize);
    size("hiddenSize", hiddenSize);
    if (weight.length !== vocabSize * hiddenSize)
      throw new InputError(
        `weight: expected ${vocabSize} × ${hiddenSize} = ${vocabSize * hiddenSize} numbers, got ${weight.length}`,
      );
    if (bias && bias.length !== vocabSize)
      throw new InputError(`bias: expected ${vocabSize} numbers, one a token, got ${bias.length}`);
    if (bias?.some((x) => Number.isNaN(x) || x === Infinity))
      throw new InputError("bias: expected numbers or -Infinity (a masked token), got NaN or +Infinity");
    return LinearHead.fromRows(
      arrays,
      () => bias,
      (first, count) => weight.subarray(first * hiddenSize, (first + count) * hiddenSize),
    );
  }

  /** Rows [first, first + count) by a function, so that the weights need not stand in memory twice. */
  private static async fromRows(
    { vocabSize, hiddenSize, scale = 1, softcap, device: wanted }: Omit<HeadArrays, "weight" | "bias">,
    bias: () => Float32Array | undefined,
    rows: (first: number, count: number) => Float32Array,
  ): Promise<LinearHead> {
    if (!Number.isFinite(scale)) throw new InputError(`scale: expected a finite number, got ${scale}`);
    if (softcap !== undefined && !(Number.isFinite(softcap) && softcap > 0))
      throw new InputError(`softcap: expected a number above 0, got ${softcap}`);
    const { device, owned } = await deviceOf(wanted);
    const source: MatrixSource = {
      name: "head weight",
      rows: vocabSize,
      cols: hiddenSize,
      type: "f32",
      read: async (first, count) => {
        const { buffer, byteOffset, byteLength } = rows(first, count);
        return new Uint8Array(buffer, byteOffset, byteLength);
      },
    };
    try {
      return new LinearHead(
        device,
        { matrix: await device.matrix(source), vocabSize, bias: bias(), scale, softcap },
        owned,
      );
    } catch (error) {
      if (owned) await device.close();
      throw error;
    }
  }

  /** A head whose weights and bias are uniform on ±1/√D, as PyTorch's nn.Linear begins; the same for the same seed. */
  static async random(options: RandomHead): Promise<LinearHead> {
    checkFields("LinearHead.random", options, [
      "vocabSize",
      "hiddenSize",
      "seed",
      "bias",
      "scale",
      "softcap",
      "device",
    ]);
    const { vocabSize, hiddenSize, seed, bias = true } = options;
    size("vocabSize", vocabSize);
    size("hiddenSize", hiddenSize);
    if (!(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32))
      throw new InputError(`seed: expected a whole number in [0, 2^32), got ${seed}`);
    const weights = vocabSize * hiddenSize;
    const bound = 1 / Math.sqrt(hiddenSize);
    const numbers = (first: number, count: number) => {
      const next = mulberry32(seed, first);
      const out = new Float32Array(count);
      for (let i = 0; i < count; i++) out[i] = (next() * 2 - 1) * bound;
      return out;
    };
    return LinearHead.fromRows(
      options,
      () => (bias ? numbers(weights, vocabSize) : undefined),
      (first, count) => numbers(first * hiddenSize, count * hiddenSize),
    );
  }

  /**
   * Asks about hidden states, all questions in one pass.
   * @param hidden [N, D], row-major
   * @throws InputError when hidden is not whole rows, a row is not finite, or an ask is out of its range; AbortError
   */
  async ask<const A extends Ask>(
    hidden: Float32Array,
    ask: A,
    options: CallOptions = {},
  ): Promise<Answer<A>> {
    checkFields("ask: options", options, ["signal"]);
    const D = this.hiddenSize;
    if (hidden.length % D !== 0)
      throw new InputError(`hidden: expected whole rows of ${D} numbers, got ${hidden.length} numbers`);
    const N = hidden.length / D;
    const query = toQuery(ask, N, this.vocabSize);
    return toAnswer(
      ask,
      N,
      this.vocabSize,
      await this.device.ask(this.weights, hidden, query, options.signal),
    );
  }

  /** Gives the weights back, and ends the device when the head opened it. */
  async close(): Promise<void> {
    this.weights.matrix.free();
    if (this.ownsDevice) await this.device.close();
  }
}

function size(name: string, value: number): void {
  if (!(Number.isSafeInteger(value) && value >= 1))
    throw new InputError(`${name}: expected a whole number from 1, got ${value}`);
}

async function deviceOf(given: HeadArrays["device"] = {}): Promise<{ device: Device; owned: boolean }> {
  if (typeof given === "string") return { device: await openDevice({ device: given }), owned: true };
  if (typeof given !== "object" || given === null)
    throw new InputError(
      `device: expected an open device, auto, wasm, reference, or { device, threads }, got ${JSON.stringify(given)}`,
    );
  if ("ask" in given) return { device: given, owned: false };
  return { device: await openDevice(given), owned: true };
}

/**
 * Uniform numbers in [0, 1) from a 32-bit seed (mulberry32 by Tommy Ettinger), from the `first` on: its state only
 * counts, so that any part of the stream can be had alone.
 */
export function mulberry32(seed: number, first = 0): () => number {
  let state = (seed + Math.imul(first, 0x6d2b79f5)) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
