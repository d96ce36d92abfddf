import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { shared, sharedPath } from "../shared.js";
import { type Bend, writeTinyModel } from "./model.js";
import { built, expectRefused, lmhead } from "./process.js";

describe.runIf(built)("bad input: exit code 2, one line, no stack", () => {
  let folder: string;
  let good: string[];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "lmhead-bad-"));
    await writeTinyModel(join(folder, "good"));
    good = ["--model", join(folder, "good")];
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const bent = async (name: string, bend: Bend): Promise<string> => {
    const path = join(folder, name);
    await writeTinyModel(path, bend);
    return path;
  };
  const refuse = (path: string, message: RegExp): Promise<void> =>
    expectRefused(["next", "a", "--model", path], message);

  it("a path where nothing is", () => refuse(join(folder, "nothing"), /nothing/));
  it("a path where nothing is, to tokenize", () =>
    expectRefused(["tokenize", "a", "--model", join(folder, "nothing")], /nothing/));
  it("an empty folder", () => {
    mkdirSync(join(folder, "empty"));
    return refuse(join(folder, "empty"), /config\.json/);
  });
  it("a folder without weights", async () => {
    rmSync(join(await bent("no-weights", {}), "model.safetensors"));
    await refuse(join(folder, "no-weights"), /safetensors/);
  });
  it("a pickle-only checkpoint", async () => {
    const path = await bent("pickle", {});
    rmSync(join(path, "model.safetensors"));
    writeFileSync(join(path, "pytorch_model.bin"), "pickle");
    const help = /pytorch_model\.bin: is a pickle.* python -c '[^']*'/;
    await refuse(path, help);
    await refuse(join(path, "pytorch_model.bin"), help);
    await expectRefused(["tokenize", "a", "--model", join(path, "pytorch_model.bin")], help);
  });
  it("a file that is no model", () => {
    writeFileSync(join(folder, "text.gguf"), "this is a text");
    return refuse(join(folder, "text.gguf"), /text\.gguf/);
  });
  it("an empty file", () => {
    writeFileSync(join(folder, "empty.gguf"), "");
    return refuse(join(folder, "empty.gguf"), /empty\.gguf/);
  });
  it("a config that is not JSON", async () => {
    const path = await bent("config", {});
    writeFileSync(join(path, "config.json"), "{ not json");
    await refuse(path, /config\.json/);
  });
  it("an architecture nobody knows, with those that are known", async () =>
    refuse(
      await bent("mamba", { config: { model_type: "mamba", architectures: ["MambaForCausalLM"] } }),
      /mamba.*llama/i,
    ));
  it("a config that does not fit the tensors", async () =>
    refuse(await bent("wide", { config: { hidden_size: 32 } }), /\b16\b.*\b32\b|\b32\b.*\b16\b/));
  it("a cut file", async () => refuse(await bent("cut", { cut: 100 }), /model\.safetensors/));
  it("a file cut in its header", async () =>
    refuse(await bent("header", { cut: 80_000 }), /model\.safetensors/));
  it("NaN weights, naming the tensor", async () =>
    refuse(
      await bent("nan", { nan: "model.layers.1.mlp.up_proj.weight" }),
      /model\.layers\.1\.mlp\.up_proj\.weight/,
    ));
  it("NaN in a norm, naming the tensor", async () =>
    refuse(await bent("nan-norm", { nan: "model.norm.weight" }), /model\.norm\.weight/));
  it("an index that climbs out of the folder", async () => {
    const path = await bent("climb", {});
    copyFileSync(join(path, "model.safetensors"), join(folder, "outside.safetensors"));
    rmSync(join(path, "model.safetensors"));
    const map = { weight_map: { "model.norm.weight": "../outside.safetensors" } };
    writeFileSync(join(path, "model.safetensors.index.json"), JSON.stringify(map));
    await refuse(path, /outside\.safetensors/);
  });

  it("ids out of range", () => expectRefused(["next", "--ids", "1 264", ...good], /264/));
  it("ids out of range to score", () => expectRefused(["score", "--ids", "1 99999", ...good], /99999/));
  it("ids out of range to decode", () => expectRefused(["tokenize", "--decode", "99999", ...good], /99999/));
  it("a prompt longer than the context", async () => {
    const ids = Array.from({ length: 65 }, () => 1).join(" ");
    await expectRefused(["next", "--ids", ids, ...good], /65.*64/);
    await expectRefused(["generate", "--ids", ids, ...good], /65.*64/);
  });
  it("--top above the vocabulary", () =>
    expectRefused(["next", "a", "--top", "265", ...good], /--top: .*257/));
  it("--of beyond the context", () =>
    expectRefused(["next", "a", "--of", "b".repeat(65), ...good], /prompt and the text after it.*66.*64/));

  it("windows that do not fit the context, or the stride", async () => {
    await expectRefused(["score", "ab", "--window", "66", ...good], /window: .* from 2 to 65, got 66/);
    await expectRefused(["score", "ab", "--window", "4", "--stride", "4", ...good], /stride: .* to 3, got 4/);
  });

  it("a score of one token says what it is", async () => {
    const { code, stdout, stderr } = await lmhead(["score", "a", ...good, "--json"]);
    // One token alone has nothing to predict it: either that is refused, or the answer holds no invented number.
    if (code === 0) expect(JSON.parse(stdout)).toMatchObject({ count: 0, sum: 0, perplexity: null });
    else expect({ code, lines: stderr.trim().split("\n").length }).toEqual({ code: 2, lines: 1 });
  });

  describe.runIf(shared)("GGUF", () => {
    const file = sharedPath("cases/gguf/llama_q8_0.gguf");
    it.each([4, 23, 200, 2000, 20000])("cut after %i bytes", async (size) => {
      writeFileSync(join(folder, `cut${size}.gguf`), readFileSync(file).subarray(0, size));
      await refuse(join(folder, `cut${size}.gguf`), /cut\d+\.gguf/);
    });
  });
});
