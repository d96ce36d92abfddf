// The texts that the model learns from and is measured on, as documents.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { detokenise } from "./detokenise.mjs";

/** Share of Shakespeare's characters, at the end, that validates. */
const SHAKESPEARE_VALIDATION = 0.05;
/** Characters after which a document of Shakespeare ends, with the speech that reaches them: a scene's length or so. */
const SHAKESPEARE_DOCUMENT = 2048;

/**
 * @typedef {object} CorpusOfDocuments
 * @property {string} name
 * @property {string[]} training documents
 * @property {string[]} validation documents, none of which is a training document of any corpus
 * @property {number} dropped documents left out of validation since training has the same
 */

/**
 * The three corpora.
 * - wikitext-2: an article a document, detokenised (`detokenise`), with its `<unk>`; valid.txt validates
 * - multi30k: an English caption a document; val.en.gz validates
 * - tinyshakespeare: some 2 kB of whole speeches a document; the last 5 % validate
 *
 * A validation document whose text is exactly that of a training document is left out.
 *
 * @param {string} folder with wikitext-2/, multi30k/ and tinyshakespeare/
 * @returns {CorpusOfDocuments[]}
 */
export function readCorpora(folder) {
  const read = (path) => readFileSync(join(folder, path));
  const text = (path) => read(path).toString("utf8");
  const gzipped = (path) => gunzipSync(read(path)).toString("utf8");
  const corpora = [
    {
      name: "wikitext-2",
      training: articles(text("wikitext-2/train.txt")),
      validation: articles(text("wikitext-2/valid.txt")),
    },
    {
      name: "multi30k",
      training: captions(gzipped("multi30k/train.en.gz")),
      validation: captions(gzipped("multi30k/val.en.gz")),
    },
    { name: "tinyshakespeare", ...shakespeare(text("tinyshakespeare/input.txt")) },
  ];
  return withoutCommon(corpora);
}

/** Leaves out of validation what training, of any corpus, has too. */
export function withoutCommon(corpora) {
  const known = new Set(corpora.flatMap(({ training }) => training));
  return corpora.map((corpus) => {
    const validation = corpus.validation.filter((document) => !known.has(document));
    return { ...corpus, validation, dropped: corpus.validation.length - validation.length };
  });
}

/** A table's key can look like a heading (" = Goals ; A = "): an article's title has an empty line on either side. */
export function articles(text) {
  const lines = text.split("\n");
  const isEmpty = (line) => line === undefined || line.trim() === "";
  const isTitle = (line, i) => /^ = [^=].* = $/.test(line) && isEmpty(lines[i - 1]) && isEmpty(lines[i + 1]);
  const documents = [];
  for (const [i, line] of lines.entries()) {
    if (isTitle(line, i)) documents.push([]);
    if (documents.length === 0 && isEmpty(line)) continue;
    if (documents.length === 0) throw new Error(`WikiText: line ${i + 1}: expected an article's title first`);
    documents.at(-1).push(detokenise(line));
  }
  return documents.map((parts) => parts.join("\n").trim());
}

export function captions(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

export function shakespeare(text) {
  const border = text.length * (1 - SHAKESPEARE_VALIDATION);
  const training = [];
  const validation = [];
  let speeches = [];
  let length = 0;
  let start = 0;
  const end = () => {
    if (speeches.length > 0) (start < border ? training : validation).push(speeches.join("\n\n").trim());
    speeches = [];
    start += length;
    length = 0;
  };
  for (const speech of text.split("\n\n")) {
    speeches.push(speech);
    length += speech.length + 2;
    if (length >= SHAKESPEARE_DOCUMENT) end();
  }
  end();
  return { training, validation };
}
