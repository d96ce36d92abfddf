import type { StoredType } from "./format.js";
import type { LossAnswer, LossQuery } from "./loss.js";
import type { Program } from "./op.js";
import type { MatrixUpdate } from "./optimize.js";
import type { RecordCall, Tape } from "./tape.js";

/** Rows of a stored matrix, readable in parts, so that a checkpoint never stands in memory twice. */
export interface MatrixSource {
  /** For error messages: the tensor's name and its file. */
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  readonly type: StoredType;
  /**
   * The bytes of rows [first, first + count), count · rowBytes(type, cols) of them, as stored (little-endian). They may be
   * written into `into` where it is long enough; the result is then a view of it.
   */
  read(first: number, count: number, into?: Uint8Array): Promise<Uint8Array>;
}

/** A weight matrix [rows, cols] in a device's memory. */
export interface Matrix {
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  readonly type: StoredType;
  /** Bytes it takes on the device. */
  readonly bytes: number;
  /** Rows `ids` widened to float32, [ids.length, cols]. @throws InputError for an id outside [0, rows). */
  gather(ids: ArrayLike<number>): Promise<Float32Array>;
  /** Gives its memory back. Using it afterwards is an error. */
  free(): void;
}

/**
 * Float32 numbers that stand in a device's memory and can be read and written in place. `Device.loss` (and so
 * `crossEntropy`) takes `data`, or a part of it, wherever it takes a Float32Array of hidden states or of their gradient,
 * and then copies nothing where the rows are a multiple of 16 numbers wide, as the kernels want them; rows of other widths
 * are copied, a chunk at a time, as those of ordinary arrays are.
 *
 * On a device without shared memory (a page that is not cross-origin isolated) growing the memory would end its views.
 * There, and on the reference device, the array is an ordinary one: the same program gives the same bits.
 */
export interface DeviceArray {
  /** The numbers; the same object each time, valid whatever the memory's growth. @throws Error after `free` */
  readonly data: Float32Array;
  /**
   * Gives the memory back, once the calls that were given a view of it have settled. Views kept beyond that show whatever
   * comes to stand there; calls refuse them.
   */
  free(): void;
}

/** Cached keys and values of one sequence. Lengths are positions. */
export interface KvCache {
  /** Positions held. */
  readonly length: number;
  /** Forgets positions from `length` on. */
  truncate(length: number): void;
  /** A second sequence with the same past; blocks are shared until one of the two writes. */
  fork(): KvCache;
  free(): void;
}

/** One sequence's part of a call: `rows` new positions that follow what its cache holds. */
export interface Segment {
  readonly cache: KvCache;
  readonly rows: number;
}

/** One run of a program. */
export interface RunCall {
  /** The sequences, packed one after the other: N = Σ rows. On success each cache has grown by its rows. */
  readonly segments: readonly Segment[];
  /** Input ids [N], for programs that begin with an `embed`. */
  readonly ids?: Int32Array;
  /** Input vectors [N, width of `into`], for programs without an `embed`; `into` names the buffer. */
  readonly vectors?: { readonly into: string; readonly data: Float32Array };
  /** The buffers wanted back, and of which rows (absent: all N). */
  readonly outputs: readonly { readonly buffer: string; readonly rows?: Int32Array }[];
  readonly signal?: AbortSignal;
}

/** A head's weights and its formula: logits = softcap(scale · (hidden · Wᵀ + b)). */
export interface HeadWeights {
  /** [rows, D]; rows at or above `vocabSize` are padding and never seen. */
  readonly matrix: Matrix;
  readonly vocabSize: number;
  /** [vocabSize]. */
  readonly bias?: Float32Array;
  /** Multiplies hidden·Wᵀ + b; 1 when there is none. */
  readonly scale: number;
  /** c in c·tanh(x / c); absent: no cap. */
  readonly softcap?: number;
}

/** What a head is asked about N rows of hidden states, in one pass. */
export interface HeadQuery {
  /** The k largest logits of each row (0: not asked; at most vocabSize). */
  readonly topK: number;
  /** Ids whose logits are wanted, [N, perRow]. */
  readonly targets?: { readonly ids: Int32Array; readonly perRow: number };
  /** Whether the targets' ranks are wanted: 1 + the number of strictly larger logits. */
  readonly rank: boolean;
  readonly logSumExp: boolean;
  readonly entropy: boolean;
  readonly sample?: SampleQuery;
  readonly logits: boolean;
}

/**
 * A sample from softmax(logits / temperature) as argmax(logits / temperature + Gumbel noise), where the noise is a
 * function of (seed, sequence, step, id) alone: threads, batching and screening never change it.
 */
export interface SampleQuery {
  readonly temperature: number;
  readonly seed: number;
  /** [N]: which sequence a row belongs to, and which step of it this is. */
  readonly sequences: Int32Array;
  readonly steps: Int32Array;
}

/** Answers to a `HeadQuery`; a field is there when it was asked. Logits are final: after bias, scale and cap. */
export interface HeadAnswer {
  /** [N, k], largest first; equal logits: the lower id first. */
  readonly topIds?: Int32Array;
  readonly topLogits?: Float32Array;
  /** [N, perRow] */
  readonly targetLogits?: Float32Array;
  readonly targetRanks?: Int32Array;
  /** [N], natural logarithm of Σ exp(logit). */
  readonly logSumExp?: Float64Array;
  /** [N], nats. */
  readonly entropy?: Float64Array;
  /** [N] */
  readonly sampleIds?: Int32Array;
  readonly sampleLogits?: Float32Array;
  /** [N, vocabSize] */
  readonly logits?: Float32Array;
  /** Rows answered by screening, and rows that screening handed back to the full pass. */
  readonly screened: number;
  readonly fellBack: number;
}

/**
 * Where ops run. Calls are queued and run in the order in which they were made; one that still waits when its signal fires
 * rejects at once with AbortError.
 */
export interface Device {
  readonly kind: "wasm" | "reference";
  readonly threads: number;
  /** One line for people: what runs, with how many threads, and why not more. */
  readonly description: string;
  /** Bytes now held for weights, caches and buffers. */
  readonly memory: number;
  /** Copies a matrix to the device. @throws InputError when it holds NaN or infinity, or does not fit. */
  matrix(source: MatrixSource, signal?: AbortSignal): Promise<Matrix>;
  /**
   * Zeros [length] in the device's memory, for `loss` to read and write without copies.
   * @throws InputError for a length that is no whole number from 0, or when they do not fit
   */
  array(length: number): DeviceArray;
  /** An empty cache for sequences of this program. */
  cache(program: Program): KvCache;
  /** Runs a program. Result: one array [rows, width] for each wanted output. */
  run(program: Program, call: RunCall): Promise<Float32Array[]>;
  /**
   * Asks a head about `hidden` [N, D].
   * @throws InputError when a hidden row or a row's logits have no answer (NaN), or a sample's logits / temperature leave
   *   float32's range
   */
  ask(head: HeadWeights, hidden: Float32Array, query: HeadQuery, signal?: AbortSignal): Promise<HeadAnswer>;
  /**
   * Linear + cross-entropy and its gradients, without ever holding N×V numbers. Hidden states, a teacher's too, and the
   * gradient by them may be views of `array`s, which are used where they stand.
   * @throws InputError for a query that does not fit, NaN or +Infinity among logits, or a row without a finite logit
   */
  loss(head: HeadWeights, hidden: Float32Array, query: LossQuery, signal?: AbortSignal): Promise<LossAnswer>;
  /**
   * Runs a program and keeps what its way back reads. Weights of a `matmul` must be float32 on the WebAssembly device.
   * @throws InputError for a call that does not fit the program; AbortError
   */
  record(program: Program, call: RecordCall): Promise<Tape>;
  /**
   * One step of an optimizer on each matrix (AdamW, SGD, Lion or Muon), with the bits of the formulas in plain TypeScript on
   * any number of threads. While it runs, Muon takes room for up to five more matrices as large as the largest it steps.
   * @throws InputError, before anything has changed, for updates that do not fit (see `checkUpdates`) or another device's
   *   matrices; afterwards, naming one whose values or states have left float32's range: all of them may have changed
   */
  update(updates: readonly MatrixUpdate[]): Promise<void>;
  /** Σ x² of each matrix, in float64, the same for any number of threads. */
  squares(matrices: readonly Matrix[]): Promise<Float64Array>;
  /** Sets matrices to zero: gradients before the next step. */
  zero(matrices: readonly Matrix[]): Promise<void>;
  /** Says that a vector of a program or a head's bias has changed where it stands: the device may hold a copy. */
  changed(vectors: readonly Float32Array[]): Promise<void>;
  /** Ends the workers and drops the memory. */
  close(): Promise<void>;
}
