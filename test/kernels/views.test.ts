import fc from "fast-check";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { InputError } from "../../src/errors.js";
import { LinearHead } from "../../src/head/linear.js";
import type { HeadWeights } from "../../src/kernels/device.js";
import type { LossQuery } from "../../src/kernels/loss.js";
import { Arena } from "../../src/kernels/wasm/arena.js";
import { WasmDevice } from "../../src/kernels/wasm/device.js";
import { crossEntropy } from "../../src/train/cross-entropy.js";
import { devices } from "../devices.js";
import { floatSource, floats } from "./random.js";

const unshared = ["wasm, not shared", () => WasmDevice.start(0, "not shared")] as const;

describe.each([...devices, unshared])("device arrays: %s", async (name, open) => {
  const device = await open();
  const shared = name.includes("thread");
  afterAll(() => device.close());
  afterEach(() => vi.restoreAllMocks());

  async function headOf(V: number, D: number): Promise<HeadWeights> {
    return {
      matrix: await device.matrix(floatSource("head", V, D, floats(V * D, 1))),
      vocabSize: V,
      scale: 1,
    };
  }
  const query = (N: number, V: number, hidden: boolean | Float32Array): LossQuery => ({
    ids: Int32Array.from({ length: N }, (_, n) => (n * 7919) % V),
    perRow: 1,
    coefficients: floats(N, 4),
    gradients: { hidden },
  });

  /** How many numbers were copied out of one array and into another while a task ran. */
  async function copies(from: Float32Array, to: Float32Array, task: () => Promise<unknown>) {
    const inside = (part: ArrayLike<number>, whole: Float32Array) =>
      part instanceof Float32Array &&
      part.buffer === whole.buffer &&
      part.byteOffset >= whole.byteOffset &&
      part.byteOffset < whole.byteOffset + whole.byteLength;
    const counted = { read: 0, written: 0 };
    const set = Float32Array.prototype.set;
    const spy = vi.spyOn(Float32Array.prototype, "set").mockImplementation(function (
      this: Float32Array,
      source,
      at,
    ) {
      if (inside(source, from)) counted.read += source.length;
      if (inside(this, to)) counted.written += source.length;
      set.call(this, source, at);
    });
    await task();
    spy.mockRestore();
    return counted;
  }

  it("are zeros in the device's memory, and give it back", () => {
    const before = device.memory;
    const [a, b] = [device.array(1000), device.array(0)];
    expect(a.data).toEqual(new Float32Array(1000));
    expect(b.data.length).toBe(0);
    expect(a.data).toBe(a.data);
    if (name !== unshared[0]) expect(device.memory - before).toBeGreaterThanOrEqual(4000);
    expect(a.data.buffer.constructor.name).toBe(shared ? "SharedArrayBuffer" : "ArrayBuffer");
    a.data.fill(5);
    a.free();
    a.free();
    b.free();
    expect(device.memory).toBe(before);
    expect(() => a.data).toThrow("this device array was freed");
    // Where the memory is had again, it is zeros again.
    const again = device.array(1000);
    expect(again.data).toEqual(new Float32Array(1000));
    again.free();
    for (const length of [-1, 0.5, NaN, "3" as unknown as number])
      expect(() => device.array(length)).toThrow(`length: expected a whole number from 0, got ${length}`);
  });

  it("outlive the growth of the memory", async () => {
    const array = device.array(64);
    array.data.set(floats(64, 2));
    const kept = array.data.slice();
    const view = array.data;
    const big = await device.matrix(floatSource("big", 4096, 1024, new Float32Array(4096 * 1024)));
    const second = device.array(1 << 20);
    expect(view).toEqual(kept);
    expect(array.data).toBe(view);
    // Still the device's own place, though the memory has a new buffer.
    const head = await headOf(48, 16);
    const plain = await device.loss(head, kept, query(4, 48, true));
    const counted = await copies(view, second.data, async () => {
      const into = second.data.subarray(16, 80);
      const { dHidden } = await device.loss(head, view, query(4, 48, into));
      expect(dHidden).toEqual(plain.dHidden);
    });
    if (shared) expect(counted).toEqual({ read: 0, written: 0 });
    for (const it of [array, second, big, head.matrix]) it.free();
  });

  it("give the bits of ordinary arrays, in place or not, whichever are which", async () => {
    const shapes = fc.record({
      N: fc.integer({ min: 0, max: 9 }),
      D: fc.constantFrom(16, 32, 48, 5, 24),
      V: fc.integer({ min: 1, max: 70 }),
      teacher: fc.option(fc.constantFrom(16, 7), { nil: undefined }),
      offset: fc.nat(5),
      views: fc.record({ hidden: fc.boolean(), into: fc.boolean(), teacher: fc.boolean() }),
      filter: fc.constantFrom(undefined, 0.02),
    });
    await fc.assert(
      fc.asyncProperty(shapes, async ({ N, D, V, teacher: E = 0, offset, views, filter }) => {
        const head = await headOf(V, D);
        const arrays = [N * D, N * D, N * E].map((length) => device.array(length + offset + 1));
        const place = (i: number, data: Float32Array, isView: boolean) => {
          if (!isView) return data.slice();
          const view = arrays[i].data.fill(7).subarray(offset, offset + data.length);
          view.set(data);
          return view;
        };
        const [h, t] = [floats(N * D, 2, 2), floats(N * E, 3, 2)];
        const weights = E ? await headOf(V, E) : undefined;
        const ask = async (hidden: Float32Array, into: true | Float32Array, taught: Float32Array) => {
          const weight = await device.matrix(floatSource("gradient", V, D, new Float32Array(V * D)));
          const q = query(N, V, into);
          const teacher = weights && { head: weights, hidden: taught, soft: floats(N, 5) };
          const gradients = { ...q.gradients, weight, filter };
          const answer = await device.loss(head, hidden, { ...q, teacher, gradients });
          const gradient = await weight.gather(Array.from({ length: V }, (_, i) => i));
          weight.free();
          return { answer, gradient };
        };
        const plain = await ask(h, true, t);
        const into = place(1, new Float32Array(N * D).fill(9), views.into);
        const mine = await ask(place(0, h, views.hidden), into, place(2, t, views.teacher));
        expect(mine).toEqual(plain);
        expect(mine.answer.dHidden).toBe(into);
        // Nothing is written around a view.
        for (const [i, isView] of [views.hidden, views.into, views.teacher].entries()) {
          if (!isView) continue;
          const { data } = arrays[i];
          const around = [...data.subarray(0, offset), data[data.length - 1]];
          expect(around).toEqual(around.map(() => 7));
        }
        for (const it of [...arrays, head.matrix, weights?.matrix]) it?.free();
      }),
      { numRuns: 60 },
    );
  });

  // 600 rows are three chunks of at most 256.
  it("are neither copied in nor out over several chunks, and take no room beside themselves", async () => {
    const [N, D, V] = [600, 32, 300];
    const head = await headOf(V, D);
    const [hidden, into] = [device.array(N * D), device.array(N * D)];
    hidden.data.set(floats(N * D, 2));
    /** What a task takes room for, in bytes. */
    const rooms = async (task: () => Promise<unknown>) => {
      const taken: Record<string, number> = {};
      const alloc = Arena.prototype.alloc;
      const spy = vi.spyOn(Arena.prototype, "alloc").mockImplementation(function (this: Arena, bytes, what) {
        taken[what] = bytes;
        return alloc.call(this, bytes, what);
      });
      await task();
      spy.mockRestore();
      return taken;
    };
    const [given, room] = [hidden.data.slice(), new Float32Array(N * D)];
    const results: Float32Array[] = [];
    const run = (from: Float32Array, to: Float32Array) => async () => {
      const { dHidden } = await device.loss(head, from, query(N, V, to));
      results.push(dHidden!.slice());
    };
    let [plainRooms, viewRooms]: Record<string, number>[] = [{}, {}];
    const plain = await copies(given, room, async () => {
      plainRooms = await rooms(run(given, room));
    });
    const views = await copies(hidden.data, into.data, async () => {
      viewRooms = await rooms(run(hidden.data, into.data));
    });
    expect(results[1]).toEqual(results[0]);
    expect(results[0].some((x) => x !== 0)).toBe(true);
    if (name !== "reference") expect(plain).toEqual({ read: N * D, written: N * D });
    if (shared) {
      expect(views).toEqual({ read: 0, written: 0 });
      const chunk = { "hidden states": 256 * D * 4, "a hidden gradient": 256 * D * 4 };
      expect(plainRooms).toEqual({ ...viewRooms, ...chunk });
      expect(viewRooms).not.toHaveProperty("hidden states");
      expect(viewRooms).not.toHaveProperty("a hidden gradient");
    }
    for (const it of [hidden, into, head.matrix]) it.free();
  });

  it("carry crossEntropy, with ignored rows too", async () => {
    const [N, D, V] = [7, 16, 40];
    const weight = floats(V * D, 1);
    const head = await LinearHead.fromArrays({ weight, vocabSize: V, hiddenSize: D, device });
    const [hidden, into] = [device.array(N * D), device.array(N * D)];
    const rows = floats(N * D, 2);
    for (const ignored of [[], [0], [6], [2, 3, 6], [0, 1, 5], [0, 1, 2, 3, 4, 5, 6]]) {
      const targets = Int32Array.from({ length: N }, (_, n) => (ignored.includes(n) ? -100 : n * 5));
      const plain = await crossEntropy(head, rows, targets, { gradients: { hidden: true } });
      hidden.data.set(rows);
      into.data.fill(3);
      const mine = await crossEntropy(head, hidden.data, targets, { gradients: { hidden: into.data } });
      expect(mine).toEqual(plain);
      expect(mine.hidden).toBe(into.data);
      const ordinary = new Float32Array(N * D).fill(3);
      await crossEntropy(head, rows, targets, { gradients: { hidden: ordinary } });
      expect(ordinary).toEqual(plain.hidden);
    }
    const bad: [RegExp, Float32Array, object][] = [
      [
        /gradients.hidden: expected 112 numbers, as many as hidden has, got 96/,
        rows,
        { hidden: rows.slice(16) },
      ],
      [/gradients.hidden shares memory with hidden,/, rows, { hidden: rows }],
      [/gradients.hidden shares memory with hidden,/, hidden.data, { hidden: hidden.data }],
      [
        /gradients.hidden: expected true, false or a Float32Array that receives it, got 1/,
        rows,
        { hidden: 1 },
      ],
    ];
    for (const [message, given, gradients] of bad)
      for (const first of [0, -100]) {
        const targets = Int32Array.from({ length: N }, (_, n) => (n ? 1 : first));
        const call = crossEntropy(head, given, targets, { gradients });
        await expect(call, String(message)).rejects.toThrow(message);
        await expect(call).rejects.toBeInstanceOf(InputError);
      }
    await head.close();
    for (const it of [hidden, into]) it.free();
  });

  it("stay while a call works on them, and are refused once they were freed", async () => {
    const [N, D, V] = [4, 16, 40];
    const head = await headOf(V, D);
    const before = device.memory;
    const [hidden, into, other] = [device.array(N * D), device.array(N * D), device.array(N * D)];
    const [h, d] = [hidden.data, into.data];
    h.set(floats(N * D, 2));
    const plain = await device.loss(head, h.slice(), query(N, V, true));
    const call = device.loss(head, h, query(N, V, d));
    hidden.free();
    into.free();
    const late = expect(device.loss(head, h, query(N, V, false))).rejects.toThrow("hidden: expected");
    // Whatever is made now stands elsewhere.
    const later = device.array(N * D);
    later.data.fill(99);
    expect((await call).dHidden).toEqual(plain.dHidden);
    await late;
    expect(later.data.every((x) => x === 99)).toBe(true);
    const straddling = shared && new Float32Array(other.data.buffer, other.data.byteOffset - 64, N * D);
    for (const view of [h, d, ...(straddling ? [straddling] : [])]) {
      const rejects = (promise: Promise<unknown>, what: string) =>
        expect(promise).rejects.toThrow(`${what}: expected an ordinary array or a view of one device array`);
      await rejects(device.loss(head, view, query(N, V, false)), "hidden");
      await rejects(device.loss(head, other.data, query(N, V, view)), "gradients.hidden");
      const linear = new LinearHead(device, head);
      await rejects(crossEntropy(linear, view, [1, 2, -100, 4]), "hidden");
    }
    for (const it of [other, later]) it.free();
    expect(device.memory).toBe(before);
    head.matrix.free();
  });
});

it("takes another device's arrays for ordinary ones, and none after its end", async () => {
  const [a, b] = await Promise.all([1, 1].map((threads) => WasmDevice.start(threads, "")));
  const array = b.array(32);
  array.data.set(floats(32, 2));
  const matrix = await a.matrix(floatSource("head", 20, 16, floats(320, 1)));
  const head = { matrix, vocabSize: 20, scale: 1 };
  const ask = (hidden: Float32Array) =>
    a.loss(head, hidden, {
      ids: Int32Array.of(3, 4),
      perRow: 1,
      coefficients: Float32Array.of(1, 1),
      gradients: { hidden: true },
    });
  expect(await ask(array.data)).toEqual(await ask(array.data.slice()));
  await b.close();
  expect(() => b.array(1)).toThrow("closed");
  array.free();
  await a.close();
});
