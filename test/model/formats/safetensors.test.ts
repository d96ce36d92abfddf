import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { oneLine } from "../../../src/cli/exit.js";
import { InputError } from "../../../src/errors.js";
import { widen } from "../../../src/kernels/reference/widen.js";
import { bytesSource, memoryFiles } from "../../../src/model/formats/files.js";
import { folderFiles } from "../../../src/model/formats/node-files.js";
import {
  openSafetensors,
  openSafetensorsFolder,
  pickleHelp,
} from "../../../src/model/formats/safetensors.js";
import { makeSafetensors, withHeader } from "../../fixtures/make-safetensors.js";
import { shared, sharedPath } from "../../shared.js";

const tiny = makeSafetensors({
  "w.weight": { shape: [2, 3], data: [1, 2, 3, 4, 5, 6] },
  "h.weight": { dtype: "F16", shape: [2], data: new Uint8Array([0x00, 0x3c, 0x00, 0xc0]) },
  "b.weight": { dtype: "BF16", shape: [2], data: new Uint8Array([0x80, 0x3f, 0x00, 0xc0]) },
  "attn.mask": { dtype: "BOOL", shape: [2, 2], data: new Uint8Array([1, 0, 1, 1]) },
});
const open = (bytes: Uint8Array) => openSafetensors(bytesSource("x.safetensors", bytes));

describe("one file", () => {
  test("gives matrices, vectors and shapes", async () => {
    const checkpoint = await open(tiny);
    expect([...checkpoint.tensors.keys()]).toEqual(["w.weight", "h.weight", "b.weight"]);
    const matrix = checkpoint.matrix("w.weight", 2, 3);
    expect(widen("f32", await matrix.read(1, 1), 3)).toEqual(Float32Array.of(4, 5, 6));
    expect(await checkpoint.vector("h.weight", 2)).toEqual(Float32Array.of(1, -2));
    expect(await checkpoint.vector("b.weight", 2)).toEqual(Float32Array.of(1, -2));
    expect(await checkpoint.vector("w.weight", 6)).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
  });

  test("says what is wrong with what was asked", async () => {
    const checkpoint = await open(tiny);
    expect(() => checkpoint.matrix("nothing", 2, 3)).toThrow(/has no tensor nothing/);
    expect(() => checkpoint.matrix("w.weight", 3, 2)).toThrow(/expected shape \[3, 2\], got \[2, 3\]/);
    expect(() => checkpoint.matrix("attn.mask", 2, 2)).toThrow(/stored as BOOL/);
    await expect(checkpoint.vector("w.weight", 5)).rejects.toThrow(/expected 5 numbers/);
    await expect(async () => checkpoint.matrix("w.weight", 2, 3).read(1, 2)).rejects.toThrow(InputError);
    const nan = await open(makeSafetensors({ n: { shape: [2], data: [0, Number.NaN] } }));
    await expect(nan.vector("n", 2)).rejects.toThrow(/n in x.safetensors: number 1 is NaN/);
  });
});

describe("headers that lie", () => {
  const f32 = (offsets: string, shape = "[1]", dtype = "F32") =>
    `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
  const four = [new Uint8Array(8)];
  const cases: [string, Uint8Array, RegExp][] = [
    ["empty file", new Uint8Array(0), /too few/],
    [
      "length beyond the file",
      withHeader("{}", [], 5000n),
      /claims a header of 5000 bytes, but the file has 10/,
    ],
    ["length beyond the cap", withHeader("{}", [], 2n ** 63n), /at most 100000000/],
    ["no JSON", withHeader("{not json"), /not valid JSON/],
    ["no object", withHeader("[1]"), /expected a JSON object, got an array/],
    ["no UTF-8", tiny.map((b, i) => (i === 12 ? 0xff : b)), /not UTF-8/],
    ["entry is no object", withHeader('{"a":1}'), /tensor a: expected an object/],
    ["offsets beyond the file", withHeader(`{"a":${f32("[8,12]")}}`, four), /cut short/],
    ["offsets backwards", withHeader(`{"a":${f32("[4,0]")}}`, four), /data_offsets/],
    ["offsets not whole", withHeader(`{"a":${f32("[0,4.5]")}}`, four), /data_offsets/],
    [
      "shape and bytes differ",
      withHeader(`{"a":${f32("[0,8]")}}`, four),
      /takes 4 bytes, but its offsets give 8/,
    ],
    [
      "shape overflows",
      withHeader(`{"a":${f32("[0,4]", "[9007199254740991,9]")}}`, four),
      /impossibly large/,
    ],
    ["negative shape", withHeader(`{"a":${f32("[0,4]", "[-1,-1]")}}`, four), /dimension is -1/],
    ["overlap", withHeader(`{"a":${f32("[0,4]")},"b":${f32("[0,4]")}}`, four), /a and b overlap/],
    [
      "twice",
      withHeader(`{"a":${f32("[0,4]")},"\\u0061":${f32("[4,8]")}}`, four),
      /tensor a stands in the header twice/,
    ],
    ["a float type nobody reads", withHeader(`{"a":${f32("[0,8]", "[1]", "F64")}}`, four), /stored as F64/],
    [
      "an integer weight",
      withHeader(`{"lm_head.weight":${f32("[0,8]", "[8]", "I8")}}`, four),
      /stored as I8/,
    ],
  ];
  test.each(cases)("%s", async (_, bytes, message) => {
    const error = await open(bytes).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).toMatch(message);
  });

  test("any damage is an InputError or a readable file", async () => {
    const headerEnd = tiny.indexOf(0x7d, tiny.lastIndexOf(0x5d) - 4) + 2;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(Math.min(headerEnd, tiny.length - 1)), fc.nat(255)), {
          minLength: 1,
          maxLength: 4,
        }),
        fc.nat(tiny.length),
        fc.boolean(),
        async (edits, length, cut) => {
          const bytes = cut ? tiny.slice(0, length) : tiny.slice();
          for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
          try {
            const checkpoint = await open(bytes);
            for (const [name, { shape }] of checkpoint.tensors)
              await checkpoint.vector(
                name,
                shape.reduce((a, b) => a * b, 1),
              );
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});

describe("folders", () => {
  const shard = (name: string) => makeSafetensors({ [name]: { shape: [1], data: [7] } });
  const index = (map: object) => JSON.stringify({ metadata: {}, weight_map: map });
  const folder = (files: Record<string, Uint8Array | string>) =>
    openSafetensorsFolder(memoryFiles("m", files));
  const named = "model.safetensors.index.json";

  test("shards are one checkpoint", async () => {
    const checkpoint = await folder({
      [named]: index({ a: "1.safetensors", b: "2.safetensors" }),
      "1.safetensors": shard("a"),
      "2.safetensors": shard("b"),
    });
    expect([...checkpoint.tensors.keys()]).toEqual(["a", "b"]);
    expect(await checkpoint.vector("b", 1)).toEqual(Float32Array.of(7));
  });

  test.each(["../x.safetensors", "/etc/passwd", "a/../../x", "..\\x", "C:\\x", "a//b", "\u0000"])(
    "the shard name %j is refused",
    async (name) => {
      await expect(folder({ [named]: index({ a: name }) })).rejects.toThrow(/leaves the folder/);
    },
  );

  test("missing shards, missing tensors, tensors in two shards", async () => {
    await expect(folder({ [named]: index({ a: "1.safetensors" }) })).rejects.toThrow(
      /shard 1.safetensors, which is missing/,
    );
    await expect(
      folder({ [named]: index({ z: "1.safetensors" }), "1.safetensors": shard("a") }),
    ).rejects.toThrow(/says that 1.safetensors holds tensor z/);
    await expect(
      folder({ [named]: index({ a: "1", b: "2" }), "1": shard("a"), "2": shard("a") }),
    ).rejects.toThrow(/tensor a is in/);
    await expect(folder({ [named]: '{"weight_map":3}' })).rejects.toThrow(/weight_map: expected an object/);
  });

  test("a pickle is refused with how to convert it", async () => {
    await expect(folder({ "pytorch_model.bin": "x" })).rejects.toThrow(/pickle.*safe_serialization=True/);
    await expect(folder({})).rejects.toThrow(/no weights/);
  });
});

test("the commands that convert a pickle are one line that a shell takes, whatever the path", () => {
  const help = pickleHelp('/a "b"/it\'s\nc/pytorch_model.bin').slice('/a "b"/it\'s\nc'.length);
  expect(oneLine(help)).toBe(help);
  const scripts = [...help.matchAll(/python -c '([^']*)'/g)].map(([, script]) => script);
  const folder = '"/a \\"b\\"/it\\u0027s\\nc';
  expect(scripts).toEqual([
    `from transformers import AutoModelForCausalLM as M; M.from_pretrained(${folder}").save_pretrained(${folder}", safe_serialization=True)`,
    `import torch, safetensors.torch as s; s.save_file({k: v.clone() for k, v in torch.load(${folder}/pytorch_model.bin", weights_only=True).items()}, ${folder}/model.safetensors")`,
  ]);
  expect(pickleHelp("model.pt")).toContain('from_pretrained(".")');
});

describe.skipIf(!shared)("the shared cases", () => {
  test("five shards with an index", async () => {
    const checkpoint = await openSafetensorsFolder(folderFiles(sharedPath("cases/hf/llama")));
    expect(checkpoint.tensors.size).toBeGreaterThan(10);
    for (const [name, { shape }] of checkpoint.tensors)
      await checkpoint.vector(
        name,
        shape.reduce((a, b) => a * b, 1),
      );
    await checkpoint.close();
  });
});
