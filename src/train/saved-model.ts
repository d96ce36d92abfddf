import { InputError } from "../errors.js";
import type { ByteSource, Checkpoint } from "../model/formats/checkpoint.js";
import { parseObject } from "../model/formats/files.js";
import { CONFIG, WEIGHTS } from "../model/formats/folder.js";
import { safetensorsLayout } from "../model/formats/safetensors-write.js";
import { StoredCheckpoint, type StoredTensor, tensorBytes } from "../model/formats/tensors.js";
import type { LanguageModel } from "../model/language-model.js";
import { editJson } from "./loop/edit-json.js";
import type { ModelFolder } from "./loop/model-folder.js";
import { storedTensors } from "./loop/stored-tensors.js";
import { storedLayout } from "./stored-layout.js";

/**
 * A model as the files of a Hugging Face folder, with the weights as they are now: `config.json`, the tokenizer's files,
 * `generation_config.json` where there is one, and `model.safetensors` in float32. `LanguageModel.load(memoryFiles(name,
 * files))` gives the same model again, to the bit; transformers reads them, and `exportGguf` takes them. The bytes take 4
 * a parameter; in Node `saveModel` writes a folder without holding them.
 *
 * Of a model that was loaded from a folder the texts stay as they stood, but for the weights' type in the config.
 * @param model of `randomModel`, or loaded from a Hugging Face folder with `weights: "float32"`; between a trainer's steps
 * @returns text or bytes by file name
 * @throws InputError for another model (a GGUF file's has no config to write), or when the bytes find no room
 * @example
 * const files = await modelFiles(model);
 * const again = await LanguageModel.load(memoryFiles("my model", files));
 */
export async function modelFiles(model: LanguageModel): Promise<Record<string, string | Uint8Array>> {
  const { texts, tensors } = await modelFolder(model);
  const { header, places, size } = safetensorsLayout(
    tensors.map(({ name, shape }) => ({ name, shape, type: "f32" })),
  );
  const bytes = roomFor(model.name, size);
  bytes.set(header);
  for (const [i, { start }] of places.entries()) {
    const { buffer, byteOffset, byteLength } = await tensors[i].read();
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), start);
  }
  return { ...Object.fromEntries(texts), [WEIGHTS]: bytes };
}

/** The same with tensors that are read when their place has come. @throws InputError as `modelFiles` does */
export async function modelFolder(model: LanguageModel): Promise<ModelFolder> {
  const { name, folder } = model;
  if (!folder) {
    const why =
      model.info().format === "gguf"
        ? "it is a GGUF file's, which has no config.json; load and train the model's Hugging Face folder"
        : 'its weights are not held as float32; load it with weights: "float32"';
    throw new InputError(`${name}: can't be written as a Hugging Face folder: ${why}`);
  }
  const config = float32Config(`${name}/${CONFIG}`, folder.texts.get(CONFIG)!);
  const layout = await storedLayout(parseObject(CONFIG, config), shapesOnly(name, folder.shapes));
  return {
    texts: new Map([...folder.texts, [CONFIG, config]]),
    tensors: storedTensors(model, layout, folder.headBias),
  };
}

/** A config whose weights are float32, whatever they were. @param what the file, for messages */
export function float32Config(what: string, text: string): string {
  const fields = ["torch_dtype", "dtype"].filter((field) => field in parseObject(what, text));
  return editJson(what, text, Object.fromEntries(fields.map((field) => [field, "float32"])));
}

/** A checkpoint whose tensors have these shapes, and 0 for every number. */
function shapesOnly(name: string, shapes: ReadonlyMap<string, readonly number[]>): Checkpoint {
  const read = async (start: number, end: number) => new Uint8Array(end - start);
  const source: ByteSource = { name, size: Number.MAX_SAFE_INTEGER, read };
  const tensors = [...shapes].map(([tensor, shape]): [string, StoredTensor] => [
    tensor,
    { name: tensor, shape, type: "f32", source, start: 0, bytes: tensorBytes(tensor, "f32", shape) },
  ]);
  return new StoredCheckpoint("safetensors", name, new Map(tensors), new Map(), []);
}

function roomFor(name: string, size: number): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch (error) {
    // What an engine says when it has no room for an array.
    if (!(error instanceof RangeError)) throw error;
    throw new InputError(
      `${name}: its weights take ${(size / 2 ** 30).toFixed(1)} GiB, more than fits in memory here; in Node saveModel writes them to a folder`,
      { cause: error },
    );
  }
}
