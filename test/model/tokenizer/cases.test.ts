import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { openGguf } from "../../../src/model/formats/gguf.js";
import { fileSource, folderFiles } from "../../../src/model/formats/node-files.js";
import { tokenizerFromFiles } from "../../../src/model/tokenizer/from-files.js";
import { tokenizerFromGguf } from "../../../src/model/tokenizer/from-gguf.js";
import type { Tokenizer } from "../../../src/model/tokenizer/tokenizer.js";
import { shared, sharedPath } from "../../shared.js";

interface Case {
  text: string;
  ids: number[];
  ids_without_special: number[];
  tokens: string[];
  decoded: string;
  decoded_with_special: string;
}

async function fromFolder(path: string): Promise<Tokenizer> {
  return (await tokenizerFromFiles(folderFiles(sharedPath(path))))!;
}

function streamed(tokenizer: Tokenizer, ids: readonly number[], skipSpecialTokens: boolean): string {
  const stream = tokenizer.textStream({ skipSpecialTokens });
  return ids.map((id) => stream.push(id)).join("") + stream.end();
}

describe.skipIf(!shared)("Hugging Face's own answers", () => {
  test.each([
    "gpt2",
    "gpt2_padded_vocab",
    "llama",
    "qwen2",
    "gemma2",
    "gpt_neox",
    "phi",
    "bert",
    "roberta",
    "t5",
  ])("%s", async (family) => {
    const tokenizer = await fromFolder(`cases/hf/${family}`);
    const expected = JSON.parse(readFileSync(sharedPath(`cases/hf/${family}/expected.json`), "utf8"));
    for (const one of expected.tokenizer as Case[]) {
      expect(tokenizer.encode(one.text), one.text).toEqual(one.ids);
      expect(tokenizer.encode(one.text, { addSpecialTokens: false })).toEqual(one.ids_without_special);
      // T5's list shows the unknown words themselves, which ids can't say.
      if (family !== "t5") expect(tokenizer.tokens(one.ids)).toEqual(one.tokens);
      expect(tokenizer.decode(one.ids, { skipSpecialTokens: true })).toBe(one.decoded);
      expect(tokenizer.decode(one.ids)).toBe(one.decoded_with_special);
      expect(streamed(tokenizer, one.ids, true)).toBe(one.decoded);
      expect(streamed(tokenizer, one.ids, false)).toBe(one.decoded_with_special);
    }
    const { bos, eos } = expected.special_ids;
    // Qwen2 has a BOS in config.json only, as T5 has none.
    if (family !== "qwen2") expect(tokenizer.bosId).toBe(bos);
    expect(tokenizer.eosIds).toEqual(eos === undefined ? [] : [eos]);
  });

  test("SmolLM2 from its GGUF file, built in a fraction of a second", async () => {
    const root = "models/smollm2-135m-instruct";
    const checkpoint = await openGguf(
      await fileSource(sharedPath(`${root}/SmolLM2-135M-Instruct.Q4_1.gguf`)),
    );
    const start = performance.now();
    const tokenizer = tokenizerFromGguf("smollm2", checkpoint.metadata)!;
    const took = performance.now() - start;
    await checkpoint.close();
    const expected = JSON.parse(readFileSync(sharedPath(`${root}/expected.json`), "utf8"));
    for (const { text, ids } of expected.tokenize) {
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(text);
      expect(streamed(tokenizer, ids, false)).toBe(text);
    }
    expect(tokenizer.vocabSize).toBe(49152);
    expect(tokenizer.eosIds).toEqual([0, 2]);
    expect(tokenizer.bosId).toBe(1);
    expect(tokenizer.addsBos).toBe(false);
    expect(took).toBeLessThan(1000);
  });

  test("a text after a prompt keeps its first space", async () => {
    const tokenizer = await fromFolder("models/stories260K");
    const prompt = tokenizer.encode("Once upon");
    const rest = tokenizer.encode("Once upon a time").slice(prompt.length);
    const stream = tokenizer.textStream({ after: prompt });
    expect(rest.map((id) => stream.push(id)).join("") + stream.end()).toBe(" a time");
  });
});
