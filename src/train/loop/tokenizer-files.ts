import { stat } from "node:fs/promises";
import { InputError } from "../../errors.js";
import type { FileSet } from "../../model/formats/checkpoint.js";
import { parseObject } from "../../model/formats/files.js";
import { readTexts, TOKENIZER, TOKENIZER_CONFIG, TOKENIZER_FILES } from "../../model/formats/folder.js";
import { folderFiles } from "../../model/formats/node-files.js";
import { tokenizerFromJson } from "../../model/tokenizer/from-files.js";
import type { Tokenizer } from "../../model/tokenizer/tokenizer.js";
import { tokenizerHash } from "../data/id-cache.js";

/** A tokenizer with the files that it is written to. */
export interface TokenizerFiles {
  readonly tokenizer: Tokenizer;
  readonly texts: ReadonlyMap<string, string>;
  /** Tells it from others. */
  readonly hash: string;
}

/**
 * A tokenizer of its files' texts: `tokenizer.json` and, where there is one, `tokenizer_config.json`.
 * @param name of their folder
 * @throws InputError when there is no tokenizer.json, or for anything wrong with it
 */
export function tokenizerOf(name: string, texts: ReadonlyMap<string, string>): TokenizerFiles {
  const parsed = (file: string) => {
    const text = texts.get(file);
    return text === undefined ? undefined : parseObject(`${name}/${file}`, text);
  };
  const json = parsed(TOKENIZER);
  if (!json) throw new InputError(`${name}: has no ${TOKENIZER}`);
  const config = parsed(TOKENIZER_CONFIG) ?? {};
  const tokenizer = tokenizerFromJson(`${name}/${TOKENIZER}`, json, config);
  return { tokenizer, texts, hash: tokenizerHash(json, config) };
}

/** The tokenizer of a folder, whether there is a model in it or not. @throws InputError */
export async function openTokenizerFolder(path: string): Promise<TokenizerFiles> {
  const found = await stat(path).catch(() => undefined);
  if (!found?.isDirectory())
    throw new InputError(
      `${path}: expected a folder with a ${TOKENIZER}, got ${found ? "a file" : "nothing"}`,
    );
  return folderTokenizer(folderFiles(path));
}

/** The same of open files. */
export async function folderTokenizer(files: FileSet): Promise<TokenizerFiles> {
  return tokenizerOf(files.name, await readTexts(files, TOKENIZER_FILES));
}
