import { Fields } from "../body/families/fields.js";
import { readHuggingFace } from "../body/families/index.js";
import { plainFrequencies } from "../body/families/rope.js";
import type { LinearSpec, ModelSpec, NormSpec } from "../body/spec.js";
import { checkFields, InputError } from "../errors.js";
import type { MatrixSource } from "../kernels/device.js";
import { BLOCKS } from "../kernels/format.js";
import type { Activation } from "../kernels/op.js";
import { type QuantizedType, quantize } from "../kernels/reference/quantize.js";
import { widen } from "../kernels/reference/widen.js";
import { findTying } from "../vocab/tying.js";
import { f32, prefixed, u32 } from "./export-gguf-entries.js";
import { type GgufExportInput, ggufExportInput } from "./export-gguf-input.js";
import { tokenizerMetadata } from "./export-gguf-tokenizer.js";
import type { FileSet } from "./formats/checkpoint.js";
import { isObject } from "./formats/files.js";
import {
  type GgufEntry,
  type GgufLayout,
  type GgufPlace,
  type GgufTensor,
  ggufFile,
  ggufLayout,
} from "./formats/gguf-write.js";
import { arraySource, rowsReordered } from "./formats/sources.js";

/** How matrices are stored, as llama.cpp's tools name it, with the number of `general.file_type` (LlamaFileType). */
const TYPES = {
  f32: { stored: "f32", fileType: 0 },
  f16: { stored: "f16", fileType: 1 },
  q4_0: { stored: "Q4_0", fileType: 2 },
  q4_1: { stored: "Q4_1", fileType: 3 },
  q8_0: { stored: "Q8_0", fileType: 7 },
  q5_0: { stored: "Q5_0", fileType: 8 },
  q5_1: { stored: "Q5_1", fileType: 9 },
} as const satisfies Record<string, { stored: QuantizedType; fileType: number }>;
export type GgufExportType = keyof typeof TYPES;

export interface GgufExportOptions {
  /** How matrices are stored; vectors, norms and learned positions are float32 always. */
  readonly type: GgufExportType;
}

/** A GGUF file that is about to be written; no matrix has been read yet. */
export interface GgufExport {
  /** Where everything stands; `layout.size` is the bytes of the file. */
  readonly layout: GgufLayout;
  /** Matrices whose rows are no multiple of a block of 32 numbers, and so are stored as f16 instead. */
  readonly asF16: readonly string[];
  /** The bytes of the tensor at a place, in parts of a few MB: what `ggufChunks` and `ggufFile` ask for. */
  read(place: GgufPlace, index: number): AsyncGenerator<Uint8Array>;
}

/** What llama.cpp takes for granted of an architecture, by the family's name. */
interface Architecture {
  readonly norm: "layer" | "rms";
  readonly activation: Activation;
  /** Rows of q and k stand in pairs that turn together. */
  readonly interleaved: boolean;
}

/** By `general.architecture`, which is also the family's name. Source: llama.cpp, `src/models/*.cpp`. */
const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: { norm: "rms", activation: "silu", interleaved: true },
  qwen2: { norm: "rms", activation: "silu", interleaved: false },
  gpt2: { norm: "layer", activation: "geluTanh", interleaved: false },
};

/** A tensor with where its numbers come from. */
interface Tensor extends GgufTensor {
  readonly type: QuantizedType;
  readonly source: MatrixSource;
}

/** Numbers that are read, rounded and written at a time. */
const CHUNK = 2 ** 20;

/**
 * A model as a GGUF file for llama.cpp, to be written with `ggufChunks`: the metadata, names, order of rows and types
 * that its converter (`convert_hf_to_gguf.py`, mid-2026) gives. Families: llama, qwen2, gpt2; tokenizers: byte-level
 * BPE with the words of GPT-2 or SmolLM. A head that equals the embedding is left out. Matrices whose rows are no
 * multiple of 32 are stored as f16 when a block format is asked for; `asF16` lists them. Of generation_config.json only
 * the end tokens are kept: a GGUF file has no place for sampling options.
 * @throws InputError for an unknown option, another family or tokenizer, a config or tensors that do not fit together,
 *   or what llama.cpp would run in another way; `read` throws it for numbers that the type can't hold
 */
export async function openGgufExport(
  input: GgufExportInput,
  options: GgufExportOptions,
): Promise<GgufExport> {
  checkFields("gguf export", input, ["name", "config", "tokenizer", "generation", "checkpoint"]);
  checkFields("gguf export", options, ["type"]);
  const { name, checkpoint } = input;
  if (!isObject(input.tokenizer?.json))
    throw new InputError("gguf export: tokenizer: expected { json, config } with the parsed tokenizer.json");
  checkFields("gguf export: tokenizer", input.tokenizer, ["json", "config"]);
  const { type } = options;
  if (!Object.hasOwn(TYPES, type))
    throw new InputError(`gguf export: type: expected one of ${Object.keys(TYPES).join(", ")}, got ${type}`);
  const config = Fields.of(`${name}: config.json`, input.config);
  const { spec } = await readHuggingFace(config.what, input.config, checkpoint);
  const family = architecture(config.what, spec);
  const { embedding, head } = spec;
  const tying = await findTying(
    { name: embedding.name, source: embedding.table },
    head.weight && { name: head.name!, source: head.weight },
    head.names,
  );
  const list = new TensorList(TYPES[type].stored);
  list.matrix("token_embd.weight", embedding.table);
  if (head.weight && !tying.tied) list.matrix("output.weight", head.weight);
  const rope = ropeMetadata(config, spec, list);
  bodyTensors(list, spec, family);
  const layout = ggufLayout(
    {
      "general.architecture": { type: "string", value: spec.family },
      "general.type": { type: "string", value: "model" },
      "general.name": { type: "string", value: name },
      "general.alignment": u32(32),
      "general.quantization_version": u32(2),
      "general.file_type": u32(TYPES[type].fileType),
      ...bodyMetadata(spec, family),
      ...rope,
      ...tokenizerMetadata(input, config, embedding.table.rows),
    },
    list.tensors.map(({ name, shape, type }) => ({ name, shape, type })),
  );
  return { layout, asF16: list.asF16, read: (_, index) => storedParts(list.tensors[index]) };
}

/**
 * A model as a GGUF file in memory; see `openGgufExport`, which says what can be written, what is stored otherwise than
 * asked, and what it throws.
 * @param input a Hugging Face folder's files (`folderFiles`, `blobFiles`, `memoryFiles` of `modelFiles`), or their parts
 * @example await writeFile("model.gguf", await exportGguf(folderFiles("my-model"), { type: "q8_0" }));
 * @throws InputError as `openGgufExport` and its `read` do, and when there is no room for the file
 */
export async function exportGguf(
  input: FileSet | GgufExportInput,
  options: GgufExportOptions,
): Promise<Uint8Array> {
  if (typeof input !== "object" || input === null)
    throw new InputError(
      `gguf export: expected a folder's files, as folderFiles(path) gives, or their parts; got ${JSON.stringify(input)}`,
    );
  const isFiles = "open" in input;
  const parts = isFiles ? await ggufExportInput(input) : input;
  try {
    const { layout, read } = await openGgufExport(parts, options);
    return await ggufFile(layout, read);
  } finally {
    if (isFiles) await parts.checkpoint.close();
  }
}

/** What llama.cpp takes for granted. @throws InputError when the model differs from it */
function architecture(what: string, { family, body }: ModelSpec): Architecture {
  if (!Object.hasOwn(ARCHITECTURES, family))
    throw new InputError(
      `${what}: the family ${family} can't be exported yet; those that can are ${Object.keys(ARCHITECTURES).join(", ")}`,
    );
  const expected = ARCHITECTURES[family];
  for (const [l, { attention, mlp }] of body.layers.entries()) {
    const refuse = (field: string, wants: unknown, got: unknown) => {
      throw new InputError(
        `${what}: layer ${l}: ${field} is ${got}, but llama.cpp runs every ${family} with ${wants}: keep the Hugging Face folder`,
      );
    };
    const scale = attention.headDim ** -0.5;
    if (mlp.activation !== expected.activation) refuse("the activation", expected.activation, mlp.activation);
    if (attention.scale !== scale) refuse("the attention's scale", scale, attention.scale);
    if (attention.window !== undefined) refuse("the attention's window", "none", attention.window);
  }
  return expected;
}

/** The body's sizes, as `TextModel.set_gguf_parameters` and its subclasses write them. */
function bodyMetadata(
  { family, body, embedding }: ModelSpec,
  { norm }: Architecture,
): Record<string, GgufEntry> {
  const { attention, mlp } = body.layers[0];
  const { heads, kvHeads, headDim } = attention;
  const entries: Record<string, GgufEntry> = {
    context_length: u32(body.maxPositions),
    embedding_length: u32(body.hiddenSize),
    block_count: u32(body.layers.length),
    feed_forward_length: u32(mlp.up.weight.rows),
    "attention.head_count": u32(heads),
    "attention.head_count_kv": u32(kvHeads),
    [`attention.layer_norm_${norm === "rms" ? "rms_" : ""}epsilon`]: f32(body.finalNorm!.eps),
    vocab_size: u32(embedding.table.rows),
  };
  if (heads * headDim !== body.hiddenSize) {
    entries["attention.key_length"] = u32(headDim);
    entries["attention.value_length"] = u32(headDim);
  }
  return prefixed(family, entries);
}

/**
 * Rotary positions: θ, the columns that turn, and what stretches them: one factor for all as linear scaling, different
 * ones (Llama 3) as the tensor `rope_freqs.weight`, by which llama.cpp divides the frequencies.
 */
function ropeMetadata(
  config: Fields,
  { family, body }: ModelSpec,
  list: TensorList,
): Record<string, GgufEntry> {
  const frequencies = body.layers[0].attention.rope?.frequencies;
  if (!frequencies) return {};
  const parameters = config.nested("rope_parameters");
  const theta = (parameters?.has("rope_theta") ? parameters : config).positive("rope_theta", 10000);
  const plain = plainFrequencies(2 * frequencies.length, theta);
  const factors = Float32Array.from(plain, (frequency, i) => frequency / frequencies[i]);
  const entries: Record<string, GgufEntry> = {
    "rope.dimension_count": u32(2 * frequencies.length),
    "rope.freq_base": f32(theta),
  };
  if (factors.some((factor) => factor !== factors[0])) {
    if (family !== "llama")
      throw new InputError(
        `${config.what}: rotary frequencies are stretched each by its own factor, which llama.cpp knows of llama alone: keep the Hugging Face folder`,
      );
    list.vector("rope_freqs.weight", factors);
  } else if (factors[0] !== 1) {
    entries["rope.scaling.type"] = { type: "string", value: "linear" };
    entries["rope.scaling.factor"] = f32(factors[0]);
  }
  return prefixed(family, entries);
}

/** The tensors of the file, in its order. */
class TensorList {
  readonly tensors: Tensor[] = [];
  readonly asF16: string[] = [];

  constructor(private readonly type: QuantizedType) {}

  matrix(name: string, source: MatrixSource, type = this.type): void {
    const fits = source.cols % BLOCKS[type].size === 0;
    if (!fits) this.asF16.push(name);
    this.tensors.push({ name, shape: [source.rows, source.cols], type: fits ? type : "f16", source });
  }

  vector(name: string, data: Float32Array): void {
    this.tensors.push({
      name,
      shape: [data.length],
      type: "f32",
      source: arraySource(name, 1, data.length, data),
    });
  }

  linear(name: string, { weight, bias }: LinearSpec, order?: (row: number) => number): void {
    this.matrix(`${name}.weight`, order ? rowsReordered(weight, order) : weight);
    if (bias) this.vector(`${name}.bias`, order ? bias.map((_, i) => bias[order(i)]) : bias);
  }

  norm(name: string, { weight, bias }: NormSpec): void {
    this.vector(`${name}.weight`, weight!);
    if (bias) this.vector(`${name}.bias`, bias);
  }
}

function bodyTensors(list: TensorList, { body }: ModelSpec, { interleaved }: Architecture): void {
  if (body.positions) list.matrix("position_embd.weight", body.positions.table, "f32");
  for (const [l, { attention, mlp }] of body.layers.entries()) {
    const at = `blk.${l}.`;
    const half = attention.headDim / 2;
    // A head's columns j and j + half turn together: they come to stand side by side (LlamaModel.permute).
    const pairs = (row: number) => {
      const j = row % (2 * half);
      return row - j + (j % 2) * half + Math.floor(j / 2);
    };
    list.norm(`${at}attn_norm`, attention.normIn!);
    if (attention.qkv.length === 1) list.linear(`${at}attn_qkv`, attention.qkv[0]);
    else
      for (const [i, part] of ["q", "k", "v"].entries())
        list.linear(`${at}attn_${part}`, attention.qkv[i], interleaved && part !== "v" ? pairs : undefined);
    list.linear(`${at}attn_output`, attention.output);
    list.norm(`${at}ffn_norm`, mlp.normIn!);
    if (mlp.gate) list.linear(`${at}ffn_gate`, mlp.gate);
    list.linear(`${at}ffn_up`, mlp.up);
    list.linear(`${at}ffn_down`, mlp.down);
  }
  list.norm("output_norm", body.finalNorm!);
}

/** A tensor's bytes as the file stores them. */
async function* storedParts({ name, type, source }: Tensor): AsyncGenerator<Uint8Array> {
  const { rows, cols } = source;
  const step = Math.max(1, Math.floor(CHUNK / cols));
  for (let first = 0; first < rows; first += step) {
    const count = Math.min(step, rows - first);
    const numbers = widen(source.type, await source.read(first, count), count * cols);
    yield quantize(type, numbers, `${source.name} as ${name}, from row ${first}`);
  }
}
