import { readFile, stat } from "node:fs/promises";
import { afterEach, describe, expect, test, vi } from "vitest";
import { InputError } from "../../src/errors.js";
import { LanguageModel as BrowserModel } from "../../src/index.js";
import { embeddedFiles } from "../../src/model/embedded.js";
import { LanguageModel, loadTokenizer } from "../../src/node.js";

const folder = new URL("../../models/tiny-gpt/", import.meta.url);
const file = new URL("tiny-gpt.gguf", folder);

afterEach(() => vi.unstubAllGlobals());

describe("the embedded model", () => {
  test("takes at most 6 MB", async () => {
    expect((await stat(file)).size).toBeLessThanOrEqual(6e6);
  });

  test("is what load() gives, the same as by its path", async () => {
    const model = await LanguageModel.load(undefined, { threads: 1 });
    const same = await LanguageModel.load(file.pathname, { threads: 1 });
    const prompt = "The cat sat on the";
    expect(model.promptIds(prompt)).toEqual(same.promptIds(prompt));
    const [top, other] = [await model.next(prompt), await same.next(prompt)];
    expect(await top.top(50)).toEqual(await other.top(50));
    // A noun comes next, as a word of its own.
    expect((await top.top(1))[0].token).toMatch(/^ [a-z]+$/);
    await model.close();
    await same.close();
  });

  test("generates without <unk>, by its own generation config", async () => {
    const model = await LanguageModel.load(undefined, { threads: 1 });
    const { suppressTokens = [] } = model.generationDefaults;
    expect(suppressTokens.length).toBeGreaterThan(0);
    for (let seed = 0; seed < 5; seed++) {
      const { text, ids } = await model.generateAll("The history of", { seed, maxNewTokens: 40 });
      expect(text).not.toMatch(/[<>]/);
      expect(ids.filter((id) => suppressTokens.includes(id))).toEqual([]);
    }
    await model.close();
  });

  test("gives its tokenizer alone", async () => {
    const tokenizer = await loadTokenizer();
    const ids = tokenizer.encode(" the cat", { addSpecialTokens: false });
    expect(tokenizer.decode(ids)).toBe(" the cat");
    expect(tokenizer.tokenText(ids[0])).toBe(" the");
  });

  test("comes by fetch where there is no file system", async () => {
    const fetched: string[] = [];
    vi.stubGlobal("fetch", async (url: URL) => {
      fetched.push(url.pathname.split("/").at(-1)!);
      return new Response(new Uint8Array(await readFile(url)));
    });
    const model = await BrowserModel.load(undefined, { device: "reference" });
    expect(fetched.sort()).toEqual(["generation_config.json", "tiny-gpt.gguf"]);
    expect(model.head.vocabSize).toBe(model.tokenizer!.vocabSize);
    await model.close();
  });

  test("that can't be had says where it was looked for", async () => {
    vi.stubGlobal("fetch", async () => new Response("", { status: 404 }));
    await expect(embeddedFiles()).rejects.toThrow(InputError);
    await expect(embeddedFiles()).rejects.toThrow(/the embedded model: .*status 404/);
  });
});

test.each([
  ["a path in a browser", "/nope"],
  ["a number", 5],
  ["null", null],
  ["nothing of a model", {}],
])("load of %s says what to give", async (_, files) => {
  await expect(BrowserModel.load(files as never)).rejects.toThrow(InputError);
  await expect(BrowserModel.load(files as never)).rejects.toThrow(/expected a model's files.*blobFiles/);
});
