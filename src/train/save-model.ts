import { readdir } from "node:fs/promises";
import { resolve } from "node:path";
import { InputError } from "../errors.js";
import { MODEL_FILES, WEIGHTS } from "../model/formats/folder.js";
import type { LanguageModel } from "../model/language-model.js";
import { asideOf, movedOf } from "./loop/layout.js";
import { writeModel } from "./loop/model-folder.js";
import { writeFolder } from "./loop/run-files.js";
import { modelFolder } from "./saved-model.js";

/**
 * Writes a model as a Hugging Face folder, the files that `modelFiles` gives, tensor by tensor. The folder is written
 * aside and gets its name when it is whole. For Node.
 * @param path a new folder, an empty one, or one that holds such a model's files alone, which is replaced
 * @throws InputError as `modelFiles` does, for a folder with other files in it, and when the disk is full
 * @example
 * await saveModel(model, "my-model");
 * const again = await LanguageModel.load("my-model");
 */
export async function saveModel(model: LanguageModel, path: string): Promise<void> {
  if (typeof path !== "string" || path === "")
    throw new InputError("saveModel: expected the path of a folder to write");
  const folder = await modelFolder(model);
  const target = resolve(path);
  // Where it is written aside, a save that was killed may have left files.
  for (const place of [target, asideOf(target), movedOf(target)]) await checkOurs(place);
  try {
    await writeFolder(target, async (aside) => {
      await writeModel(aside, folder);
    });
  } catch (error) {
    const { cause } = error as { readonly cause?: NodeJS.ErrnoException };
    if (cause?.code !== "ENOSPC" && cause?.code !== "EDQUOT") throw error;
    throw new InputError(`${path}: can't be written: the disk is full; make room and save again`, { cause });
  }
}

/** @throws InputError for a folder with files that are no model's */
async function checkOurs(path: string): Promise<void> {
  const foreign = (await namesIn(path)).find((name) => name !== WEIGHTS && !MODEL_FILES.includes(name));
  if (foreign !== undefined)
    throw new InputError(
      `${path}: holds ${foreign}, which is none of the files that saveModel writes and would be lost; take another folder`,
    );
}

async function namesIn(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return [];
    if (code === "ENOTDIR")
      throw new InputError(`${path}: a file stands there or on the way; expected a folder`);
    throw new InputError(`${path}: can't be listed (${code}); take another folder`, { cause: error });
  }
}
