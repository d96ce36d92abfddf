import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { blobFiles, blobSource, memoryFiles, readJson } from "../../../src/model/formats/files.js";
import { fileSource, folderFiles, openPath } from "../../../src/model/formats/node-files.js";

const root = mkdtempSync(join(tmpdir(), "lmhead-files-"));
afterAll(() => rmSync(root, { recursive: true }));
mkdirSync(join(root, "model", "sub"), { recursive: true });
mkdirSync(join(root, "bare"));
writeFileSync(join(root, "model", "config.json"), '{"a": 1}');
writeFileSync(join(root, "model", "sub", "x.bin"), "0123456789");
writeFileSync(join(root, "bare", "x.gguf"), "GGUF");
symlinkSync(join(root, "model", "sub", "x.bin"), join(root, "model", "link"));

describe("files on disk", () => {
  test("are read by position", async () => {
    const source = await fileSource(join(root, "model", "sub", "x.bin"));
    expect(source.size).toBe(10);
    expect(new TextDecoder().decode(await source.read(3, 6))).toBe("345");
    await expect(source.read(8, 11)).rejects.toThrow(/bytes 8 to 11 asked of a file of 10/);
    await source.close!();
    await source.close!();
    await expect(source.read(0, 1)).rejects.toThrow(/after it was closed/);
  });

  test("that are not there, or are no files", async () => {
    await expect(fileSource(join(root, "nothing"))).rejects.toThrow(/no such file/);
    await expect(fileSource(root)).rejects.toThrow(/expected a file, got a folder/);
    await expect(fileSource("/dev/null")).rejects.toThrow(/a device or pipe/);
  });

  test("a folder lists and opens its files, and nothing outside", async () => {
    const files = folderFiles(join(root, "model"));
    expect(await files.list()).toEqual(["config.json", "link", "sub/x.bin"]);
    expect(await readJson(files, "config.json")).toEqual({ a: 1 });
    expect(await files.open("nothing.json")).toBeUndefined();
    const link = (await files.open("link"))!;
    expect(link.size).toBe(10);
    await link.close!();
    await expect(files.open("../bare/x.gguf")).rejects.toThrow(/leaves the folder/);
  });

  test("what a path leads to", async () => {
    expect((await openPath(join(root, "model"))).kind).toBe("folder");
    const opened = await openPath(join(root, "bare", "x.gguf"));
    expect(opened.kind).toBe("file");
    if (opened.kind === "file") await opened.source.close!();
    // A GGUF file's folder is one too: a generation_config.json may lie in it.
    expect((await openPath(join(root, "bare"))).kind).toBe("folder");
    await expect(openPath(join(root, "model", "sub"))).rejects.toThrow(/no config.json and no .gguf file/);
    await expect(openPath(join(root, "no"))).rejects.toThrow(/no such file or folder/);
  });
});

describe("files of a page", () => {
  test("memory and blobs", async () => {
    const files = memoryFiles("m", {
      "a.json": '{"b": 2}',
      bytes: Uint8Array.of(1, 2),
      blob: new Blob(["xyz"]),
    });
    expect(await files.list()).toEqual(["a.json", "blob", "bytes"]);
    expect(await readJson(files, "a.json")).toEqual({ b: 2 });
    expect(await (await files.open("blob"))!.read(1, 3)).toEqual(new TextEncoder().encode("yz"));
    await expect(blobSource("b", new Blob(["xyz"])).read(0, 4)).rejects.toThrow(/cut short/);
    await expect(readJson(memoryFiles("m", { a: "[]" }), "a")).rejects.toThrow(
      /expected a JSON object, got an array/,
    );
    await expect(readJson(memoryFiles("m", { a: Uint8Array.of(255) }), "a")).rejects.toThrow(/not UTF-8/);
  });

  test("a dropped folder loses the name that its files share", async () => {
    const file = (path: string) =>
      Object.defineProperty(new File(["x"], path.split("/").pop()!), "webkitRelativePath", { value: path });
    expect(await blobFiles("d", [file("m/config.json"), file("m/sub/y")]).list()).toEqual([
      "config.json",
      "sub/y",
    ]);
    expect(await blobFiles("d", [new File(["x"], "z.gguf")]).list()).toEqual(["z.gguf"]);
  });
});
