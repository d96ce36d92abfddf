import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { AbortError, InputError } from "../../../src/errors.js";
import type { KvCache, RunCall } from "../../../src/kernels/device.js";
import type { Program } from "../../../src/kernels/op.js";
import { ReferenceDevice } from "../../../src/kernels/reference/device.js";
import { everyOp, type Shape } from "../programs.js";
import { distance, floatSource, floats } from "../random.js";

const shape: Shape = {
  D: 12,
  heads: 4,
  kvHeads: 2,
  headDim: 5,
  F: 17,
  type: "f32",
  layout: "half",
  pairs: 2,
  window: 4,
  softcap: 3,
  activation: "silu",
  norm: "rms",
};
const last = [{ buffer: "x" }];
const call = (cache: KvCache, ids: number[], over: Partial<RunCall> = {}): RunCall => ({
  segments: [{ cache, rows: ids.length }],
  ids: Int32Array.from(ids),
  outputs: last,
  ...over,
});

/** A program whose one product takes about a second: x [N, 2048] through 30 matrices, which are one. */
async function slow(device: ReferenceDevice): Promise<Program> {
  const weight = await device.matrix(floatSource("w", 2048, 2048, floats(2048 * 2048, 1, 1e-3)));
  const product = (from: string, out: string) =>
    ({ op: "matmul", in: from, out, outColumn: 0, weight, accumulate: false }) as const;
  return {
    buffers: { x: 2048, y: 2048 },
    ops: Array.from({ length: 15 }, () => [product("x", "y"), product("y", "x")]).flat(),
    cache: [],
    maxPositions: 8,
  };
}

describe("the reference device", () => {
  it("gives the same bits whole, in parts, one by one, in company, and after a rewind", async () => {
    const device = new ReferenceDevice();
    const { program } = await everyOp(device, shape);
    const ids = [3, 1, 4, 1, 5, 9, 2, 6];
    const whole = device.cache(program);
    const [all] = await device.run(program, call(whole, ids));

    const parts = device.cache(program);
    const [a] = await device.run(program, call(parts, ids.slice(0, 5)));
    const [b] = await device.run(program, call(parts, ids.slice(5)));
    expect([...a, ...b]).toEqual([...all]);

    const single = device.cache(program);
    for (const [i, id] of ids.entries())
      expect(await device.run(program, call(single, [id]))).toEqual([
        all.slice(i * shape.D, (i + 1) * shape.D),
      ]);

    whole.truncate(5);
    const fork = whole.fork();
    const other = device.cache(program);
    const segments = [
      { cache: other, rows: 2 },
      { cache: fork, rows: 0 },
      { cache: whole, rows: 3 },
    ];
    const [both, start] = await device.run(program, {
      segments,
      ids: Int32Array.from([7, 7, ...ids.slice(5)]),
      outputs: [{ buffer: "x", rows: Int32Array.of(4, 2, 3) }, { buffer: "start" }],
    });
    expect([...both.slice(12), ...both.slice(0, 12)]).toEqual([...b]);
    expect(start.length).toBe(5 * shape.D);
    expect([other.length, fork.length, whole.length]).toEqual([2, 5, 8]);
    expect(await device.run(program, call(fork, ids.slice(5)))).toEqual([b]);
    await device.close();
  });

  it("runs empty calls", async () => {
    const device = new ReferenceDevice();
    const { program } = await everyOp(device, shape);
    const cache = device.cache(program);
    expect(await device.run(program, call(cache, []))).toEqual([new Float32Array(0)]);
    expect(await device.run(program, { segments: [], ids: new Int32Array(0), outputs: last })).toEqual([
      new Float32Array(0),
    ]);
    await device.close();
  });

  it("takes vectors where a program has no embedding", async () => {
    const device = new ReferenceDevice();
    const { program } = await everyOp(device, shape);
    const cache = device.cache(program);
    const [expected, start] = await device.run(
      program,
      call(cache, [3, 1], { outputs: [...last, { buffer: "start" }] }),
    );
    // "start" is a copy of x after embedding and positions: the rest of the program goes on from there.
    const rest: Program = { ...program, ops: program.ops.slice(3) };
    const again = device.cache(rest);
    const got = await device.run(rest, {
      segments: [{ cache: again, rows: 2 }],
      vectors: { into: "x", data: start },
      outputs: last,
    });
    expect(got).toEqual([expected]);
    await device.close();
  });

  it("reads quantised weights as their widened numbers", async () => {
    const device = new ReferenceDevice();
    const { program, matrices } = await everyOp(device, { ...shape, D: 32, type: "Q4_1" });
    const [table] = matrices;
    const rows = await table.gather([4, 0, 4]);
    expect(rows.slice(0, 32)).toEqual(rows.slice(64));
    const [start] = await device.run(
      program,
      call(device.cache(program), [4], { outputs: [{ buffer: "start" }] }),
    );
    const positions = await matrices[1].gather([2]);
    expect(
      distance(
        start,
        rows.slice(0, 32).map((x, i) => x * 1.5 + positions[i]),
      ),
    ).toBeLessThan(1e-6);
    await expect(table.gather([50])).rejects.toThrow("row 50 (at 0) is not in [0, 50)");
    await device.close();
  });

  it("counts the bytes it holds, and gives them back", async () => {
    const device = new ReferenceDevice();
    expect(device.memory).toBe(0);
    const { program, matrices } = await everyOp(device, shape);
    const weights = matrices.reduce((sum, m) => sum + m.bytes, 0);
    expect(device.memory).toBe(weights);
    const cache = device.cache(program);
    await device.run(program, call(cache, [1, 2, 3]));
    expect(device.memory).toBe(weights + 3 * 2 * 10 * 4);
    const fork = cache.fork();
    expect(device.memory).toBe(weights + 2 * 3 * 2 * 10 * 4);
    for (const holder of [cache, fork, ...matrices]) {
      holder.free();
      holder.free();
    }
    expect(device.memory).toBe(0);
    await expect(device.run(program, call(device.cache(program), [1]))).rejects.toThrow(/was freed/);
    await expect(device.run(program, call(cache, [1]))).rejects.toThrow("this cache was freed");
    await device.close();
  });

  it("refuses weights that are not finite, naming tensor, row and column", async () => {
    const device = new ReferenceDevice();
    for (const bad of [Number.NaN, Infinity, -Infinity]) {
      const data = floats(15, 1);
      data[7] = bad;
      await expect(device.matrix(floatSource("layer.3.weight", 5, 3, data))).rejects.toThrow(
        `layer.3.weight: holds ${bad} at [2, 1]`,
      );
    }
    expect(device.memory).toBe(0);
    await device.close();
  });

  it("sees an abort within 50 ms, leaves the cache, and goes on with the next call", async () => {
    const device = new ReferenceDevice();
    const program = await slow(device);
    const cache = device.cache(program);
    const vectors = { into: "x", data: floats(8 * 2048, 3) };
    const controller = new AbortController();
    const segments = [{ cache, rows: 8 }];
    const first = device.run(program, { segments, vectors, outputs: last, signal: controller.signal });
    const waiting = device.run(program, { segments, vectors, outputs: last, signal: controller.signal });
    const outcome = first.then(
      () => 0,
      (error: unknown) => {
        expect(error).toBeInstanceOf(AbortError);
        return performance.now();
      },
    );
    const other = expect(waiting).rejects.toThrow(AbortError);
    await sleep(60);
    const at = performance.now();
    controller.abort("enough");
    // 50 ms by the design; a loaded machine gets more.
    expect((await outcome) - at).toBeLessThan(200);
    await other;
    expect(cache.length).toBe(0);
    cache.truncate(0); // not busy any more
    expect(
      await device.run(program, {
        segments: [],
        vectors: { into: "x", data: new Float32Array(0) },
        outputs: last,
      }),
    ).toEqual([new Float32Array(0)]);
    await expect(
      device.run(program, { segments, vectors, outputs: last, signal: AbortSignal.abort() }),
    ).rejects.toThrow(AbortError);
    await device.close();
  });

  it("refuses to cut a cache that a run is using, and fails a run whose cache is freed", async () => {
    const device = new ReferenceDevice();
    const program = await slow(device);
    const [kept, freed] = [device.cache(program), device.cache(program)];
    const segments = [
      { cache: kept, rows: 1 },
      { cache: freed, rows: 1 },
    ];
    const run = device.run(program, {
      segments,
      vectors: { into: "x", data: floats(2 * 2048, 3) },
      outputs: last,
    });
    const failed = expect(run).rejects.toThrow("this cache was freed");
    await sleep(30);
    expect(() => kept.truncate(0)).toThrow(/a run is using this cache/);
    freed.free();
    await failed;
    expect(kept.length).toBe(0);
    await device.close();
  });

  it("runs calls in the order in which they were made", async () => {
    const device = new ReferenceDevice();
    const { program } = await everyOp(device, shape);
    const cache = device.cache(program);
    const order: number[] = [];
    await Promise.all(
      [0, 1, 2, 3].map((id) => device.run(program, call(cache, [id])).then(() => order.push(cache.length))),
    );
    expect(order).toEqual([1, 2, 3, 4]);
    await device.close();
  });

  it("rejects everything after close", async () => {
    const device = new ReferenceDevice();
    const program = await slow(device);
    const cache = device.cache(program);
    const running = device.run(program, {
      segments: [{ cache, rows: 1 }],
      vectors: { into: "x", data: floats(2048, 3) },
      outputs: last,
    });
    const stopped = expect(running).rejects.toThrow(/closed/);
    await sleep(5);
    await device.close();
    await stopped;
    expect(device.memory).toBe(0);
    await expect(device.run(program, { segments: [], outputs: [] })).rejects.toThrow(/closed/);
    await expect(device.matrix(floatSource("w", 1, 1, floats(1, 1)))).rejects.toThrow(/closed/);
    expect(() => device.cache(program)).toThrow(/closed/);
    const [op] = program.ops;
    if (op.op === "matmul") await expect(op.weight.gather([0])).rejects.toThrow(/closed/);
    await device.close();
  });

  it("refuses calls that do not fit, naming what", async () => {
    const device = new ReferenceDevice();
    const { program } = await everyOp(device, shape);
    const cache = device.cache(program);
    const refused = async (given: RunCall, message: string) => {
      const promise = device.run(program, given);
      await expect(promise).rejects.toThrow(InputError);
      await expect(promise).rejects.toThrow(message);
    };
    const fork = cache.fork();
    await refused(call(cache, [1, 50]), "id 50 (at 1) is not in [0, 50)");
    await refused(call(cache, [-1]), "id -1 (at 0)");
    await refused(call(cache, [1], { ids: Int32Array.of(1, 2) }), "the segments have 1 rows, but 2 ids came");
    await refused(call(cache, [1], { ids: undefined }), "begins with ids, but none came");
    await refused(call(cache, new Array(65).fill(0)), "the context length is 64");
    await refused(call(cache, [1], { segments: [{ cache, rows: -1 }] }), "rows: expected a whole number");
    await refused(
      call(cache, [1, 2], {
        segments: [
          { cache, rows: 1 },
          { cache, rows: 1 },
        ],
      }),
      "the cache of an earlier segment",
    );
    await refused(call(cache, [1], { outputs: [{ buffer: "z" }] }), 'unknown buffer "z"');
    await refused(call(cache, [1], { outputs: [{ buffer: "constructor" }] }), 'unknown buffer "constructor"');
    await refused(
      call(cache, [1], { outputs: [{ buffer: "x", rows: Int32Array.of(1) }] }),
      "row 1 (at 0) is not in [0, 1)",
    );
    await refused(
      call(cache, [1], { vectors: { into: "x", data: new Float32Array(12) } }),
      "but vectors came",
    );
    const elsewhere = new ReferenceDevice();
    const { program: wide } = await everyOp(elsewhere, { ...shape, headDim: 6 });
    await refused(call(device.cache(wide), [1]), "another shape");
    await expect(elsewhere.run(wide, call({ ...fork, length: 0 } as KvCache, [1]))).rejects.toThrow(
      "another device",
    );
    expect(cache.length).toBe(0);
    await elsewhere.close();
    await device.close();
  });
});
