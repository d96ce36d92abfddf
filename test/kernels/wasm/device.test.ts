import { afterAll, describe, expect, it } from "vitest";
import { AbortError } from "../../../src/errors.js";
import type { Device, KvCache } from "../../../src/kernels/device.js";
import type { StoredType } from "../../../src/kernels/format.js";
import type { Program } from "../../../src/kernels/op.js";
import { ReferenceDevice } from "../../../src/kernels/reference/device.js";
import { WasmDevice } from "../../../src/kernels/wasm/device.js";
import { everyOp, type Shape } from "../programs.js";
import { distance, randomSource } from "../random.js";

const reference = new ReferenceDevice();
const devices: [string, WasmDevice][] = [
  ["2 threads", await WasmDevice.start(2, "test")],
  ["1 thread", await WasmDevice.start(1, "test")],
  ["3 threads", await WasmDevice.start(3, "test")],
  ["no shared memory", await WasmDevice.start(0, "test")],
];
afterAll(async () => {
  for (const [, device] of devices) await device.close();
  await reference.close();
});

const base: Shape = {
  D: 32,
  heads: 4,
  kvHeads: 2,
  headDim: 12,
  F: 48,
  type: "f32",
  layout: "half",
  pairs: 4,
  activation: "silu",
  norm: "rms",
};
const shapes: [string, Shape][] = [
  ["f32, rms, silu", base],
  [
    "odd widths, layer norm, gelu",
    {
      ...base,
      D: 5,
      heads: 3,
      kvHeads: 1,
      headDim: 7,
      F: 11,
      pairs: 3,
      norm: "layer",
      activation: "geluErf",
    },
  ],
  [
    "window and soft-cap",
    { ...base, window: 5, softcap: 2, activation: "geluTanh", layout: "interleaved", pairs: 6 },
  ],
  [
    "width 1",
    { ...base, D: 1, heads: 1, kvHeads: 1, headDim: 2, F: 1, pairs: 1, norm: "layer", activation: "relu" },
  ],
  ["bf16", { ...base, type: "bf16", headDim: 16, pairs: 8 }],
  ["f16", { ...base, type: "f16", headDim: 33, pairs: 16, layout: "interleaved" }],
  ...(["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] as StoredType[]).map((type): [string, Shape] => [
    type,
    { ...base, type, D: 96, F: 33 },
  ]),
  ...(["Q4_K", "Q5_K", "Q6_K"] as StoredType[]).map((type): [string, Shape] => [
    type,
    { ...base, type, D: 512, F: 17 },
  ]),
];
const ids = Int32Array.from({ length: 45 }, (_, i) => (i * 7) % 50);

async function once(
  device: Device,
  program: Program,
  cache: KvCache,
  part: Int32Array,
): Promise<Float32Array> {
  const [x] = await device.run(program, {
    segments: [{ cache, rows: part.length }],
    ids: part,
    outputs: [{ buffer: "x" }],
  });
  return x;
}

describe.each(shapes)("every op: %s", (_, shape) => {
  it("agrees with the reference, and has the same bits whatever the threads and the split of rows", async () => {
    const plain = await everyOp(reference, shape);
    const expected = await once(reference, plain.program, reference.cache(plain.program), ids);
    let first: Float32Array | undefined;
    for (const [name, device] of devices) {
      const { program, matrices } = await everyOp(device, shape);
      const whole = await once(device, program, device.cache(program), ids);
      // Integer weights meet activations as int16: 1e-5 of a block's maximum, which random weights of up to 16 blow up.
      expect(distance(whole, expected), name).toBeLessThan(shape.type.startsWith("Q") ? 1e-2 : 2e-5);
      first ??= whole;
      expect(whole, name).toEqual(first);
      const cache = device.cache(program);
      const parts: number[] = [];
      for (const [a, b] of [
        [0, 1],
        [1, 2],
        [2, 5],
        [5, 6],
        [6, 40],
        [40, 45],
      ])
        parts.push(...(await once(device, program, cache, ids.subarray(a, b))));
      expect(Float32Array.from(parts), `${name}, in parts`).toEqual(first);
      for (const m of matrices) m.free();
    }
  });
});

describe("rows wider than a thread's scratch", () => {
  it("learned positions of width 90,016 add what the reference adds, and nothing else in memory changes", async () => {
    const D = 90_016;
    const part = Int32Array.of(3, 0, 1);
    const make = async (device: Device, type: StoredType): Promise<Program> => ({
      buffers: { x: D },
      ops: [
        { op: "embed", table: await device.matrix(randomSource("f32", 4, D, 1)), out: "x", scale: 1.5 },
        { op: "positions", table: await device.matrix(randomSource(type, 5, D, 2)), offset: 2, out: "x" },
      ],
      cache: [],
      maxPositions: 3,
    });
    const device = await WasmDevice.start(1, "test");
    for (const type of ["f32", "f16", "Q4_0"] as const) {
      const [plain, program] = [await make(reference, type), await make(device, type)];
      const expected = await once(reference, plain, reference.cache(plain), part);
      for (let i = 0; i < 2; i++)
        expect(distance(await once(device, program, device.cache(program), part), expected)).toBeLessThan(
          1e-6,
        );
    }
    await device.close();
  });
});

describe("caches", () => {
  it("several sequences in a call answer as each alone; forks and cuts share nothing by accident", async () => {
    const [, device] = devices[0];
    const { program } = await everyOp(device, base);
    const alone = await once(device, program, device.cache(program), ids.subarray(0, 9));
    const a = device.cache(program);
    const b = device.cache(program);
    const [both] = await device.run(program, {
      segments: [
        { cache: a, rows: 9 },
        { cache: b, rows: 3 },
      ],
      ids: Int32Array.from([...ids.subarray(0, 9), 1, 2, 3]),
      outputs: [{ buffer: "x" }],
    });
    expect(both.subarray(0, 9 * 32)).toEqual(alone);
    const fork = a.fork();
    const onA = await once(device, program, a, Int32Array.of(5));
    const onFork = await once(device, program, fork, Int32Array.of(6));
    a.truncate(9);
    expect(await once(device, program, a, Int32Array.of(6))).toEqual(onFork);
    fork.truncate(9);
    expect(await once(device, program, fork, Int32Array.of(5))).toEqual(onA);
    const before = device.memory;
    a.free();
    fork.free();
    b.free();
    expect(device.memory).toBeLessThan(before);
  });
});

describe("weights", () => {
  it.each([
    "f32",
    "f16",
    "bf16",
    "Q8_0",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q4_K",
    "Q5_K",
    "Q6_K",
  ] as StoredType[])("%s rows come back as the reference reads them, to the bit", async (type) => {
    const source = randomSource(type, 19, 512, 3);
    const rows = [0, 18, 7, 7, 15, 16];
    const expected = await (await reference.matrix(source)).gather(rows);
    const matrix = await devices[0][1].matrix(source);
    expect(await matrix.gather(rows)).toEqual(expected);
    await expect(matrix.gather([19])).rejects.toThrow(/row 19 is outside/);
  });

  it("refuses NaN and infinity by the tensor's name and row", async () => {
    const data = new Float32Array(40 * 8);
    data[33 * 8 + 2] = Number.NaN;
    const source = {
      name: "w",
      rows: 40,
      cols: 8,
      type: "f32" as const,
      read: async (f: number, n: number) => new Uint8Array(data.buffer, f * 32, n * 32),
    };
    await expect(devices[0][1].matrix(source)).rejects.toThrow(/w: row 33 holds NaN/);
  });

  it("refuses what 4 GiB can't hold, and says what would fit", async () => {
    const before = devices[0][1].memory;
    const source = { ...randomSource("f32", 1, 32, 1), rows: 40_000_000 };
    await expect(devices[0][1].matrix(source)).rejects.toThrow(/does not fit.*are left/);
    expect(devices[0][1].memory).toBe(before);
  });
});

describe("matrices that a program can't run on", () => {
  it("freed since a run of the same program and size: an error, whatever stands there now", async () => {
    const device = await WasmDevice.start(1, "test");
    const part = Int32Array.of(1, 2, 3);
    const { length } = (await everyOp(device, base)).matrices;
    for (let i = 0; i < length; i++) {
      const { program, matrices } = await everyOp(device, base);
      await once(device, program, device.cache(program), part);
      const gathered = matrices[i].gather([0]);
      matrices[i].free();
      await expect(once(device, program, device.cache(program), part)).rejects.toThrow(/matrix was freed/);
      await expect(gathered).rejects.toThrow(/matrix was freed/);
    }
    await device.close();
  });

  it("another device's", async () => {
    const [[, device], [, other]] = devices;
    for (const owner of [other, reference]) {
      const { program, matrices } = await everyOp(owner, base);
      await expect(once(device, program, device.cache(program), Int32Array.of(1))).rejects.toThrow(
        /belongs to another device/,
      );
      const head = { matrix: matrices[0], vocabSize: 50, scale: 1 };
      const query = { topK: 1, rank: false, logSumExp: false, entropy: false, logits: false };
      await expect(device.ask(head, new Float32Array(32), query)).rejects.toThrow(
        /belongs to another device/,
      );
      for (const matrix of matrices) matrix.free();
    }
  });
});

/** A program of every op, and one that takes many seconds. */
async function endlessOn(device: Device): Promise<{ program: Program; endless: Program }> {
  const { program } = await everyOp(device, base);
  const wide = await device.matrix(randomSource("f32", 4096, 32, 1));
  const back = await device.matrix(randomSource("f32", 32, 4096, 2));
  const once32 = [
    { op: "matmul", in: "x", out: "wide", outColumn: 0, weight: wide, accumulate: false },
    { op: "act", kind: "tanh", buffer: "wide" },
    { op: "matmul", in: "wide", out: "x", outColumn: 0, weight: back, accumulate: false },
  ] as const;
  const endless: Program = {
    ...program,
    buffers: { ...program.buffers, wide: 4096 },
    ops: [...program.ops, ...Array.from({ length: 3000 }, () => once32).flat()],
  };
  return { program, endless };
}

describe.each([
  ["in workers", 2],
  ["on the caller's thread", 0],
])("aborting %s", (_, threads) => {
  it("stops a run of many seconds on its way, and leaves the cache as it was", async () => {
    const device = await WasmDevice.start(threads, "test");
    const { program, endless } = await endlessOn(device);
    const cache = device.cache(endless);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 30);
    const run = device.run(endless, {
      segments: [{ cache, rows: 60 }],
      ids: new Int32Array(60),
      outputs: [{ buffer: "x" }],
      signal: controller.signal,
    });
    await expect(run).rejects.toThrow(AbortError);
    expect(cache.length).toBe(0);
    await once(device, program, device.cache(program), Int32Array.of(1, 2));
    await device.close();
    await expect(device.run(program, { segments: [], ids: new Int32Array(0), outputs: [] })).rejects.toThrow(
      /closed/,
    );
  });

  it("rejects a call that waits at once, and runs those behind it in their turn", async () => {
    const device = await WasmDevice.start(threads, "test");
    const { program, endless } = await endlessOn(device);
    const matrix = await device.matrix(randomSource("f32", 50, 32, 3));
    const head = { matrix, vocabSize: 50, scale: 1 };
    const query = { topK: 1, rank: false, logSumExp: false, entropy: false, logits: false };
    const ahead = new AbortController();
    const controller = new AbortController();
    const { signal } = controller;
    const cache = device.cache(program);
    let done = false;
    const outputs = [{ buffer: "x" }];
    const first = device
      .run(endless, {
        segments: [{ cache: device.cache(endless), rows: 60 }],
        ids: new Int32Array(60),
        outputs,
        signal: ahead.signal,
      })
      .finally(() => {
        done = true;
      });
    const stopped = expect(first).rejects.toThrow(AbortError);
    const one = Int32Array.of(1);
    const rest = { segments: [{ cache, rows: 1 }], ids: one, outputs };
    const source = randomSource("f32", 4, 4, 1);
    const waiting = [
      device.ask(head, new Float32Array(32), query, signal),
      device.run(program, { ...rest, signal }),
      device.matrix({ ...source, read: () => Promise.reject(new Error("it must not be read")) }, signal),
      device.record(program, { lengths: [1], ids: one, signal }),
    ];
    const behind = device.run(program, rest);
    setTimeout(() => controller.abort(), 30);
    await Promise.all(waiting.map((call) => expect(call).rejects.toThrow(AbortError)));
    expect(done).toBe(false);
    await expect(device.ask(head, new Float32Array(32), query, signal)).rejects.toThrow(AbortError);
    expect(done).toBe(false);
    ahead.abort();
    await stopped;
    expect((await behind)[0].length).toBe(32);
    expect(cache.length).toBe(1);
    await device.close();
  });
});
