import { InputError } from "../../errors.js";
import type { Activation } from "../../kernels/op.js";
import type { Checkpoint } from "../../model/formats/checkpoint.js";
import type {
  AttentionSpec,
  LayerSpec,
  LinearSpec,
  MlpSpec,
  ModelSpec,
  NormSpec,
  RopeSpec,
} from "../spec.js";
import type { Fields } from "./fields.js";
import { type GgufSizes, ggufRope, ggufSizes } from "./gguf-fields.js";
import { layerNorm, linear, rmsNorm, vocabulary, vocabularySpecs } from "./parts.js";

/** How llama.cpp runs an architecture: what its metadata do not say. */
interface GgufFamily {
  readonly family: string;
  readonly norm: "layer" | "rms";
  readonly rope?: RopeSpec["layout"];
  readonly positions?: boolean;
  readonly arrangement?: (gguf: Gguf) => LayerSpec["arrangement"];
  /** One norm a layer serves both sublayers. */
  readonly sharedNorm?: boolean;
  readonly postNorms?: boolean;
  readonly activation: Activation;
  readonly gated: boolean;
  readonly headBias?: boolean;
  readonly embeddingScale?: (D: number) => number;
  readonly headSoftcap?: (gguf: Gguf) => number | undefined;
  /** Fields of the attention that differ from the plain ones. */
  readonly attention?: (gguf: Gguf, layer: number) => Partial<AttentionSpec>;
}

/** By `general.architecture`. Sources: llama.cpp's `src/models/*.cpp`, `conversion/*.py`; HEADS.md, section 2c. */
const ARCHITECTURES: Readonly<Record<string, GgufFamily>> = {
  // Rows of q and k were permuted by the converter, so that pairs stand side by side: run as stored.
  llama: {
    family: "llama",
    norm: "rms",
    rope: "interleaved",
    activation: "silu",
    gated: true,
    // 0 and absent mean the usual scale.
    attention: ({ fields, key }) =>
      fields.has(key("attention.scale")) && !fields.isZero(key("attention.scale"))
        ? { scale: fields.positive(key("attention.scale")) }
        : {},
  },
  qwen2: { family: "qwen2", norm: "rms", rope: "half", activation: "silu", gated: true },
  // Norms are stored as w + 1; √D is neither stored nor rounded.
  gemma2: {
    family: "gemma2",
    norm: "rms",
    rope: "half",
    postNorms: true,
    activation: "geluTanh",
    gated: true,
    embeddingScale: Math.sqrt,
    headSoftcap: ({ fields, key }) => cap(fields, key("final_logit_softcapping"), 30),
    attention: ({ fields, key, sizes }, layer) => ({
      // The file does not hold the scale: 27B, known by its 46 layers, has one of its own.
      scale: (sizes.layers === 46 ? sizes.D / sizes.heads : sizes.headDim) ** -0.5,
      softcap: cap(fields, key("attn_logit_softcapping"), 50),
      window: layer % 2 === 0 ? fields.whole(key("attention.sliding_window"), { or: 4096 }) : undefined,
    }),
  },
  gpt2: { family: "gpt2", norm: "layer", positions: true, activation: "geluTanh", gated: false },
  gptneox: {
    family: "gpt_neox",
    norm: "layer",
    rope: "half",
    arrangement: ({ fields, key }) =>
      fields.flag(key("use_parallel_residual"), true) ? "parallel" : "serial",
    activation: "geluErf",
    gated: false,
  },
  phi2: {
    family: "phi",
    norm: "layer",
    rope: "half",
    arrangement: () => "parallel",
    sharedNorm: true,
    activation: "geluTanh",
    gated: false,
    headBias: true,
  },
};

/** What the functions above read. */
interface Gguf {
  readonly fields: Fields;
  readonly checkpoint: Checkpoint;
  readonly sizes: GgufSizes;
  /** A metadata key of the architecture. */
  readonly key: (name: string) => string;
}

/**
 * A model's spec from a GGUF file's metadata and tensors.
 * @throws InputError for an architecture that is not supported, naming it
 */
export async function readGguf(
  fields: Fields,
  checkpoint: Checkpoint,
): Promise<{ readonly architecture: string; readonly spec: ModelSpec }> {
  const architecture = fields.text("general.architecture");
  if (!Object.hasOwn(ARCHITECTURES, architecture))
    throw new InputError(
      `${fields.what}: architecture "${architecture}" is not supported; supported are ${Object.keys(ARCHITECTURES).join(", ")}`,
    );
  const family = ARCHITECTURES[architecture];
  const key = (name: string) => `${architecture}.${name}`;
  if (fields.has(key("expert_count")) && !fields.isZero(key("expert_count")))
    fields.refuse(key("expert_count"), "none: mixtures of experts are not supported", "some");
  const sizes = ggufSizes(fields, key);
  return { architecture, spec: await readSpec(family, { fields, checkpoint, sizes, key }) };
}

async function readSpec(family: GgufFamily, gguf: Gguf): Promise<ModelSpec> {
  const { fields, checkpoint, sizes, key } = gguf;
  const { D, maxPositions } = sizes;
  const eps = fields.positive(key(`attention.layer_norm_${family.norm === "rms" ? "rms_" : ""}epsilon`));
  const norm = (name: string): Promise<NormSpec> =>
    (family.norm === "rms" ? rmsNorm : layerNorm)(checkpoint, name, D, eps);
  const rope = family.rope && (await ggufRope(fields, checkpoint, key, sizes.headDim, family.rope));
  const found = vocabulary(checkpoint, ["token_embd.weight"], ["output.weight"], { dim: D });

  const layers: LayerSpec[] = [];
  for (let l = 0; l < sizes.layers; l++) {
    const at = `blk.${l}.`;
    layers.push({
      arrangement: family.arrangement?.(gguf) ?? "serial",
      attention: {
        ...(await attention(gguf, at, rope)),
        ...family.attention?.(gguf, l),
        normIn: await norm(`${at}attn_norm`),
        normOut: family.postNorms ? await norm(`${at}post_attention_norm`) : undefined,
      },
      mlp: {
        ...(await mlp(gguf, at, family)),
        normIn: family.sharedNorm ? undefined : await norm(`${at}ffn_norm`),
        normOut: family.postNorms ? await norm(`${at}post_ffw_norm`) : undefined,
      },
    });
  }
  return {
    family: family.family,
    body: {
      hiddenSize: D,
      maxPositions,
      positions: family.positions
        ? { table: checkpoint.matrix("position_embd.weight", maxPositions, D), offset: 0 }
        : undefined,
      layers,
      finalNorm: await norm("output_norm"),
    },
    ...vocabularySpecs(found, {
      scale: family.embeddingScale?.(D),
      bias: family.headBias ? await checkpoint.vector("output.bias", found.embedding.source.rows) : undefined,
      softcap: family.headSoftcap?.(gguf),
    }),
  };
}

/** Attention from fused [q; k; v] or from three matrices; biases where the file has them. */
async function attention(
  { checkpoint, sizes }: Gguf,
  at: string,
  rope: RopeSpec | undefined,
): Promise<AttentionSpec> {
  const { D, heads, kvHeads, headDim } = sizes;
  const part = (name: string, out: number, input: number): Promise<LinearSpec> =>
    linear(checkpoint, at + name, out, input, "present");
  const q = heads * headDim;
  const kv = kvHeads * headDim;
  const fused = checkpoint.tensors.has(`${at}attn_qkv.weight`);
  return {
    heads,
    kvHeads,
    headDim,
    scale: headDim ** -0.5,
    rope,
    qkv: fused
      ? [await part("attn_qkv", q + 2 * kv, D)]
      : [await part("attn_q", q, D), await part("attn_k", kv, D), await part("attn_v", kv, D)],
    output: await part("attn_output", D, q),
  };
}

async function mlp({ checkpoint, sizes }: Gguf, at: string, family: GgufFamily): Promise<MlpSpec> {
  const { D, F } = sizes;
  return {
    activation: family.activation,
    gate: family.gated ? await linear(checkpoint, `${at}ffn_gate`, F, D, "present") : undefined,
    up: await linear(checkpoint, `${at}ffn_up`, F, D, "present"),
    down: await linear(checkpoint, `${at}ffn_down`, D, F, "present"),
  };
}

/** A soft-cap of the metadata; 0 is none. */
function cap(fields: Fields, key: string, or: number): number | undefined {
  return fields.isZero(key) ? undefined : fields.positive(key, or);
}
