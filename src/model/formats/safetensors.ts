import { InputError } from "../../errors.js";
import type { ByteSource, Checkpoint, FileSet } from "./checkpoint.js";
import { checkRelative, isObject, kindOf, readJson } from "./files.js";
import { readSafetensors } from "./safetensors-header.js";
import { StoredCheckpoint, type StoredTensor } from "./tensors.js";

const WHOLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/** One safetensors file as a checkpoint. The checkpoint closes the source. @throws InputError */
export async function openSafetensors(source: ByteSource): Promise<Checkpoint> {
  return gather(source.name, [source]);
}

/**
 * The weights of a Hugging Face folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.
 * @throws InputError when there are none (pickles: with how to convert them) or anything in them is wrong
 */
export async function openSafetensorsFolder(files: FileSet): Promise<Checkpoint> {
  const whole = await files.open(WHOLE);
  if (whole) return openSafetensors(whole);
  const index = await readJson(files, INDEX);
  if (!index) throw new InputError(await whyNone(files));
  const map = readWeightMap(`${files.name}/${INDEX}`, index);
  const sources: ByteSource[] = [];
  try {
    for (const shard of new Set(map.values())) {
      const source = await files.open(shard);
      if (!source) throw new InputError(`${files.name}: ${INDEX} names the shard ${shard}, which is missing`);
      sources.push(source);
    }
  } catch (error) {
    await Promise.all(sources.map((source) => source.close?.()));
    throw error;
  }
  return gather(files.name, sources, map);
}

/** Reads the headers of all sources; `map` says what an index promises. Closes the sources when anything is wrong. */
async function gather(
  name: string,
  sources: readonly ByteSource[],
  map: ReadonlyMap<string, string> = new Map(),
): Promise<Checkpoint> {
  try {
    const tensors = new Map<string, StoredTensor>();
    const others = new Map<string, string>();
    for (const source of sources) {
      const file = await readSafetensors(source);
      for (const tensor of file.tensors) {
        const before = tensors.get(tensor.name);
        if (before)
          throw new InputError(
            `${name}: tensor ${tensor.name} is in ${before.source.name} and in ${source.name}`,
          );
        tensors.set(tensor.name, tensor);
      }
      for (const [other, dtype] of file.others) others.set(other, dtype);
    }
    for (const [tensor, shard] of map)
      if (!tensors.has(tensor) && !others.has(tensor))
        throw new InputError(`${name}: ${INDEX} says that ${shard} holds tensor ${tensor}, but it does not`);
    return new StoredCheckpoint("safetensors", name, tensors, others, sources);
  } catch (error) {
    await Promise.all(sources.map((source) => source.close?.()));
    throw error;
  }
}

function readWeightMap(what: string, index: Record<string, unknown>): Map<string, string> {
  const map = index.weight_map;
  if (!isObject(map)) throw new InputError(`${what}: weight_map: expected an object, got ${kindOf(map)}`);
  const entries = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard !== "string")
      throw new InputError(`${what}: ${tensor}: expected a shard's file name, got ${kindOf(shard)}`);
    checkRelative(what, shard);
    entries.set(tensor, shard);
  }
  if (entries.size === 0) throw new InputError(`${what}: weight_map is empty: there are no weights`);
  return entries;
}

/** Whether this is the name of a pickle: a PyTorch file that is no safetensors file. */
export function isPickle(name: string): boolean {
  return /\.(bin|pt|pth|ckpt|pkl)$/.test(name);
}

/** What to tell who gave a pickle: why not, and commands that convert it, each of one line that a shell takes. */
export function pickleHelp(name: string): string {
  const slash = Math.max(name.lastIndexOf("/"), name.lastIndexOf("\\"));
  const folder = slash < 0 ? "." : name.slice(0, slash) || "/";
  const whole = `from transformers import AutoModelForCausalLM as M; M.from_pretrained(${quoted(folder)}).save_pretrained(${quoted(folder)}, safe_serialization=True)`;
  const bare = `import torch, safetensors.torch as s; s.save_file({k: v.clone() for k, v in torch.load(${quoted(name)}, weights_only=True).items()}, ${quoted(`${folder}/${WHOLE}`)})`;
  return `${name}: is a pickle, which can run any program when it is read, so lmhead does not open it; expected ${WHOLE} in a folder with config.json; convert it once, with: python -c '${whole}' or, for tensors without a config.json: python -c '${bare}'`;
}

/** A string of Python, inside a shell's single quotes. */
function quoted(text: string): string {
  return JSON.stringify(text).replaceAll("'", "\\u0027");
}

async function whyNone(files: FileSet): Promise<string> {
  const names = await files.list();
  const pickle = names.find(isPickle);
  if (pickle !== undefined) return pickleHelp(`${files.name}/${pickle}`);
  const other = names.find((name) => name.endsWith(".safetensors"));
  const hint = other === undefined ? "" : `; it has ${other}: name that file ${WHOLE}, or give its index`;
  return `${files.name}: no weights: expected ${WHOLE} or ${INDEX}${hint}`;
}
