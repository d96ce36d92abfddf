import { Fields } from "../body/families/fields.js";
import { readGguf } from "../body/families/gguf.js";
import { readHuggingFace } from "../body/families/index.js";
import type { ModelSpec } from "../body/spec.js";
import { bodyMatrices } from "../body/upload.js";
import { InputError } from "../errors.js";
import type { ByteSource, Checkpoint, FileSet } from "./formats/checkpoint.js";
import { readJson } from "./formats/files.js";
import { float32Checkpoint } from "./formats/float32-checkpoint.js";
import { MODEL_FILES, readTexts } from "./formats/folder.js";
import { type GgufCheckpoint, isGguf, openGguf } from "./formats/gguf.js";
import { isPickle, openSafetensorsFolder, pickleHelp } from "./formats/safetensors.js";
import { type GenerationConfig, readGenerationConfig } from "./generation-config.js";
import { tokenizerFromFiles } from "./tokenizer/from-files.js";
import { tokenizerFromGguf } from "./tokenizer/from-gguf.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";
import type { LoadOptions, ModelFiles } from "./types.js";

/** A model as its files describe it; the weights are still in them. `checkpoint` must be closed. */
export interface OpenModel {
  readonly name: string;
  readonly checkpoint: Checkpoint;
  /** The checkpoint's own name of its architecture. */
  readonly architecture: string;
  readonly spec: ModelSpec;
  readonly generation: GenerationConfig;
  readonly tokenizer: Tokenizer | undefined;
  /** Its files but the weights, as they stand; only of a Hugging Face folder whose matrices are all read as float32. */
  readonly texts?: ReadonlyMap<string, string>;
}

/**
 * Opens a Hugging Face folder (config.json beside the weights), a .gguf file, or a folder of one such file and no
 * safetensors. A generation_config.json is read of folders; beside a file that is named itself nothing is looked for.
 * @param weights as `LanguageModel.load` has it; default "stored"
 * @throws InputError for anything wrong with the files
 */
export async function openModel(
  files: ModelFiles,
  weights: LoadOptions["weights"] = "stored",
): Promise<OpenModel> {
  if ("read" in files) return openGgufModel(files);
  const gguf = await ggufAlone(files);
  if (gguf) return openGgufModel(gguf, files);
  const config = await readJson(files, "config.json");
  if (config) return openFolder(files, config, weights);
  throw new InputError(`${files.name}: expected config.json or one .gguf file, got neither`);
}

/**
 * The tokenizer alone, of the same kinds of files; no weight is touched.
 * @throws InputError when there is none, or for anything wrong with it
 */
export async function openTokenizer(files: ModelFiles): Promise<Tokenizer> {
  if ("read" in files) return ggufTokenizer(files);
  const gguf = await ggufAlone(files);
  if (gguf) return ggufTokenizer(gguf);
  const tokenizer = await tokenizerFromFiles(files);
  if (tokenizer) return tokenizer;
  throw new InputError(`${files.name}: has no tokenizer.json`);
}

async function ggufTokenizer(source: ByteSource): Promise<Tokenizer> {
  const checkpoint = await openOnlyFile(source);
  try {
    const tokenizer = tokenizerFromGguf(source.name, checkpoint.metadata);
    if (!tokenizer) throw new InputError(`${source.name}: holds no tokenizer`);
    return tokenizer;
  } finally {
    await checkpoint.close();
  }
}

/**
 * The .gguf file of a folder whose weights are in it alone. Such folders are published with the config.json of the model
 * that the file was made of; it says nothing that the file doesn't.
 * @throws InputError for several, or for one beside safetensors without a config.json
 */
async function ggufAlone(files: FileSet): Promise<ByteSource | undefined> {
  const names = (await files.list()).filter((name) => !name.includes("/"));
  const found = names.filter((name) => name.endsWith(".gguf"));
  const others = names.filter((name) => /\.safetensors(\.index\.json)?$/.test(name));
  if (found.length === 0 || (others.length > 0 && names.includes("config.json"))) return undefined;
  if (found.length > 1 || others.length > 0)
    throw new InputError(
      `${files.name}: which file is the model? There are ${[...found, ...others].join(", ")}: name one .gguf file`,
    );
  const source = await files.open(found[0]);
  if (!source) throw new InputError(`${files.name}: ${found[0]} is listed but can't be opened`);
  return source;
}

async function openFolder(
  files: FileSet,
  json: Record<string, unknown>,
  weights: LoadOptions["weights"],
): Promise<OpenModel> {
  const what = `${files.name}/config.json`;
  const config = Fields.of(what, json);
  const generation = await generationFields(files);
  const checkpoint = await openSafetensorsFolder(files);
  try {
    // The model that its own weights give when they are stored again, in float32.
    const given = weights === "float32" ? float32Checkpoint(checkpoint) : checkpoint;
    const { architecture, spec } = await readHuggingFace(what, json, given);
    const tokenizer = await tokenizerFromFiles(files);
    return {
      name: files.name,
      checkpoint,
      architecture,
      spec,
      generation: readGenerationConfig(generation, config, tokenizer),
      tokenizer,
      texts: isFloat32(spec) ? await readTexts(files, MODEL_FILES) : undefined,
    };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

function isFloat32({ embedding, head, body }: ModelSpec): boolean {
  const matrices = [embedding.table, head.weight ?? embedding.table, ...bodyMatrices(body)];
  return matrices.every(({ type }) => type === "f32");
}

async function generationFields(files: FileSet): Promise<Fields | undefined> {
  const json = await readJson(files, "generation_config.json");
  return json && Fields.of(`${files.name}/generation_config.json`, json);
}

/** A GGUF file says which ids end a text; how to generate, a generation_config.json of its folder may say. */
async function ggufGeneration(
  folder: FileSet | undefined,
  tokenizer: Tokenizer | undefined,
): Promise<GenerationConfig> {
  const fields = folder && (await generationFields(folder));
  const nothing = new Fields("generation_config.json", () => undefined);
  return readGenerationConfig(fields, nothing, tokenizer);
}

/** A file that is a whole model, which a GGUF file alone is, whatever its name. @throws InputError for another */
async function openOnlyFile(source: ByteSource): Promise<GgufCheckpoint> {
  const { name } = source;
  try {
    if (name.endsWith(".safetensors"))
      throw new InputError(
        `${name}: holds weights alone; give the folder in which it lies beside its config.json`,
      );
    if (isPickle(name) && !(await isGguf(source))) throw new InputError(pickleHelp(name));
  } catch (error) {
    await source.close?.();
    throw error;
  }
  return openGguf(source);
}

/** @param folder in which the file lies alone, perhaps beside a generation_config.json */
async function openGgufModel(source: ByteSource, folder?: FileSet): Promise<OpenModel> {
  const checkpoint = await openOnlyFile(source);
  try {
    const fields = new Fields(source.name, (name) => checkpoint.metadata.get(name));
    const { architecture, spec } = await readGguf(fields, checkpoint);
    const tokenizer = tokenizerFromGguf(source.name, checkpoint.metadata);
    return {
      name: source.name,
      checkpoint,
      architecture,
      spec,
      generation: await ggufGeneration(folder, tokenizer),
      tokenizer,
    };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}
