import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** What a test may bend to see it refused. */
export interface Bend {
  /** Fields put over the config's. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** A tensor whose first number becomes NaN. */
  readonly nan?: string;
  /** How many bytes of model.safetensors are left out at its end. */
  readonly cut?: number;
}

const D = 16;
const inner = 24;
const layers = 2;
const bytes = 256;
/** Rows of the vocabulary: 256 bytes, one end token, seven rows of padding. */
const rows = 264;

/** A Hugging Face folder of a llama with random weights (fixed seed) that reads and writes bytes. */
export async function writeTinyModel(folder: string, bend: Bend = {}): Promise<void> {
  await mkdir(folder, { recursive: true });
  const config = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: D,
    intermediate_size: inner,
    num_hidden_layers: layers,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    hidden_act: "silu",
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: false,
    vocab_size: rows,
    eos_token_id: bytes,
    torch_dtype: "float32",
    ...bend.config,
  };
  const weights = safetensors(bend.nan);
  await Promise.all([
    writeFile(join(folder, "config.json"), JSON.stringify(config)),
    writeFile(join(folder, "generation_config.json"), JSON.stringify({ eos_token_id: bytes })),
    writeFile(join(folder, "tokenizer.json"), JSON.stringify(tokenizer())),
    writeFile(join(folder, "tokenizer_config.json"), JSON.stringify({ eos_token: "<|end|>" })),
    writeFile(join(folder, "model.safetensors"), weights.subarray(0, weights.length - (bend.cut ?? 0))),
  ]);
}

function shapes(): [string, number[]][] {
  const out: [string, number[]][] = [["model.embed_tokens.weight", [rows, D]]];
  for (let l = 0; l < layers; l++) {
    const at = `model.layers.${l}`;
    out.push(
      [`${at}.input_layernorm.weight`, [D]],
      [`${at}.self_attn.q_proj.weight`, [D, D]],
      [`${at}.self_attn.k_proj.weight`, [D / 2, D]],
      [`${at}.self_attn.v_proj.weight`, [D / 2, D]],
      [`${at}.self_attn.o_proj.weight`, [D, D]],
      [`${at}.post_attention_layernorm.weight`, [D]],
      [`${at}.mlp.gate_proj.weight`, [inner, D]],
      [`${at}.mlp.up_proj.weight`, [inner, D]],
      [`${at}.mlp.down_proj.weight`, [D, inner]],
    );
  }
  return [...out, ["model.norm.weight", [D]], ["lm_head.weight", [rows, D]]];
}

function safetensors(nan: string | undefined): Uint8Array {
  let state = 1;
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
  const header: Record<string, object> = {};
  const values: number[] = [];
  for (const [name, shape] of shapes()) {
    const count = shape.reduce((product, n) => product * n, 1);
    header[name] = { dtype: "F32", shape, data_offsets: [4 * values.length, 4 * (values.length + count)] };
    const first = values.length;
    // Norms near one; matrices wide enough that the distribution is far from flat.
    for (let i = 0; i < count; i++) values.push(shape.length === 1 ? 1 + 0.1 * uniform() : 0.6 * uniform());
    if (name === nan) values[first] = Number.NaN;
  }
  const text = JSON.stringify(header);
  const head = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(head.length));
  return Buffer.concat([length, head, Buffer.from(Float32Array.from(values).buffer)]);
}

/** GPT-2's byte alphabet without merges: every byte is a token, in the order of the alphabet. */
function tokenizer(): object {
  const printable = (b: number): boolean => (b > 32 && b < 127) || (b > 160 && b !== 173);
  let spare = 256;
  const vocab: Record<string, number> = {};
  for (let b = 0; b < bytes; b++) vocab[String.fromCodePoint(printable(b) ? b : spare++)] = b;
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const end = { id: bytes, content: "<|end|>", special: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [{ ...end, single_word: false, lstrip: false, rstrip: false, normalized: false }],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: byteLevel,
    decoder: byteLevel,
    model: { type: "BPE", dropout: null, unk_token: null, vocab, merges: [] },
  };
}
