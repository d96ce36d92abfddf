import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../src/kernels/device.js";
import type { Op, Program } from "../../src/kernels/op.js";
import { openDevice } from "../../src/kernels/open.js";
import { dropoutForward, dropoutKey } from "../../src/kernels/reference/dropout.js";
import type { DropoutDraw } from "../../src/kernels/tape.js";
import { devices } from "../devices.js";
import { everyOp } from "./programs.js";
import { floats } from "./random.js";
import { gradientsOf, near, proveGradients, shapes, twice } from "./tapes.js";

interface Masks {
  readonly masks: readonly {
    readonly draw: DropoutDraw;
    readonly stream: number;
    readonly rate: number;
    readonly kept: readonly string[];
  }[];
}
const { masks } = JSON.parse(
  readFileSync(new URL("../train/fixtures/dropout.json", import.meta.url), "utf8"),
) as Masks;

const nothing = { matrices: new Map(), vectors: new Map() };
const draw: DropoutDraw = { seed: 7, step: 3, batch: 1 };
const call = { lengths: [5, 1, 4], ids: Int32Array.of(3, 9, 3, 49, 0, 7, 7, 8, 3, 1), dropout: draw };
const N = call.ids.length;

/** One op on the vectors that a call gives. */
const alone = (width: number, rate: number, stream = 0): Program => ({
  buffers: { x: width },
  ops: [{ op: "dropout", buffer: "x", rate, stream }],
  cache: [],
  maxPositions: 4096,
});

/** Two layers that drop where a transformer does: of what enters them, and of both sublayers before their sums. */
function dropping(program: Program, rate = 0.25): Program {
  const ops: Op[] = [];
  let stream = 0;
  for (const op of twice(program).ops) {
    ops.push(op);
    const buffer = op.op === "positions" ? "x" : op.op === "scale" ? "o" : op.op === "act" ? "u" : undefined;
    if (buffer) ops.push({ op: "dropout", buffer, rate, stream: stream++ });
  }
  return { ...twice(program), ops };
}

/** Recorded output of `alone` for rows of ones, and the gradient of its sum by what enters. */
async function masked(device: Device, rows: number, program: Program, dropout: DropoutDraw) {
  const ones = new Float32Array(rows * program.buffers.x).fill(1);
  const vectors = { into: "x", data: ones };
  const tape = await device.record(program, { lengths: [rows], vectors, dropout });
  const out = tape.output("x");
  const back = (await tape.backward({ buffer: "x", gradient: ones }, nothing))!;
  tape.free();
  return { out, back };
}

describe("the mask", () => {
  test.each(masks)("of stream $stream at $rate is the one made again in Python", async (wanted) => {
    const { rate, stream, kept } = wanted;
    const width = kept[0].length;
    const scale = Math.fround(1 / (1 - rate));
    for (const [, open] of devices) {
      const device = await open();
      const { out, back } = await masked(device, kept.length, alone(width, rate, stream), wanted.draw);
      expect([...out].map((x) => (x === 0 ? "0" : "1")).join("")).toBe(kept.join(""));
      expect(new Set(out)).toEqual(new Set([0, scale]));
      expect(back).toEqual(out);
      await device.close();
    }
  });

  test("has the same bits on every device, of any width, rows and threads, on the way there and back", async () => {
    const opened = await Promise.all(devices.map(([, open]) => open()));
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 70 }),
        fc.integer({ min: 1, max: 40 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.maxSafeNat(),
        fc.maxSafeNat(),
        async (width, rows, rate, seed, step) => {
          const data = floats(rows * width, width + rows);
          const dropout = { seed, step };
          const wanted = dropoutForward(data, width, rate, dropoutKey(dropout, 2));
          for (const device of opened) {
            const vectors = { into: "x", data };
            const tape = await device.record(alone(width, rate, 2), { lengths: [rows], vectors, dropout });
            expect(tape.output("x")).toEqual(wanted);
            expect(await tape.backward({ buffer: "x", gradient: data }, nothing)).toEqual(wanted);
            tape.free();
          }
        },
      ),
      { numRuns: 40, seed: 5 },
    );
    await Promise.all(opened.map((device) => device.close()));
  });

  test("drops the rate's share of each column and row, and keeps the mean", () => {
    const [rows, width, rate] = [2000, 300, 0.2];
    const ones = new Float32Array(rows * width).fill(1);
    const out = dropoutForward(ones, width, rate, dropoutKey(draw, 0));
    const dropped = (at: (i: number) => number, count: number) => {
      const counts = new Float64Array(count);
      out.forEach((x, i) => {
        if (x === 0) counts[at(i)]++;
      });
      return counts;
    };
    // Five standard deviations of a binomial for the farthest of 2300, and four for all together.
    const within = (got: number, trials: number, sigmas: number) =>
      expect(Math.abs(got - trials * rate)).toBeLessThan(sigmas * Math.sqrt(trials * rate * (1 - rate)));
    for (const count of dropped((i) => i % width, width)) within(count, rows, 5);
    for (const count of dropped((i) => Math.floor(i / width), rows)) within(count, width, 5);
    within(dropped(() => 0, 1)[0], rows * width, 4);
  });

  test("is unrelated for another seed, step, batch, stream or row", () => {
    const [rows, width] = [400, 100];
    const ones = new Float32Array(rows * width).fill(1);
    const of = (other: Partial<DropoutDraw>, stream = 0, first = 0) =>
      dropoutForward(ones, width, 0.5, dropoutKey({ ...draw, ...other }, stream), first);
    const mine = of({});
    const others = [
      of({ seed: 8 }),
      of({ seed: 7 + 2 ** 32 }),
      of({ step: 4 }),
      of({ batch: 0 }),
      of({}, 1),
      of({}, 0, 1),
    ];
    for (const other of others) {
      const same = other.reduce((sum, x, i) => sum + (x === mine[i] ? 1 : 0), 0);
      expect(Math.abs(same - 20000)).toBeLessThan(400); // four standard deviations of 40000 fair coins
    }
    expect(of({}, 0, 1).subarray(0, width)).toEqual(mine.subarray(width, 2 * width));
  });
});

test.each(shapes.slice(0, 2))(
  "gradients are those of finite differences, the mask fixed (%#)",
  async (shape) => {
    const device = await openDevice({ device: "reference" });
    const make = async (from: Device) => {
      const { program, matrices } = await everyOp(from, shape);
      return { program: dropping(program), matrices };
    };
    await proveGradients(device, make, call, floats(N * shape.D, 77));
    await device.close();
  },
);

test("two layers that drop: WebAssembly agrees with the reference, with the same bits for any threads", async () => {
  for (const shape of shapes) {
    const found = [];
    for (const [, open] of devices) {
      const device = await open();
      const { program, matrices } = await everyOp(device, shape);
      const gradient = floats(N * shape.D, 3);
      found.push(await gradientsOf(device, dropping(program), matrices, call, gradient));
      // Another step at the same place in memory draws other masks.
      const dropout = { ...draw, step: 4 };
      found.push(await gradientsOf(device, dropping(program), matrices, { ...call, dropout }, gradient));
      await device.close();
    }
    const [reference, , one, oneLater, three, threeLater] = found;
    expect(three).toEqual(one);
    expect(threeLater).toEqual(oneLater);
    expect(oneLater).not.toEqual(one);
    for (const [i, m] of one.matrices.entries()) near(m, reference.matrices[i]);
    for (const [i, v] of one.vectors.entries()) near(v, reference.vectors[i]);
  }
});

describe.each(devices)("%s", (_, open) => {
  test("a run drops nothing, before and after a recorded one", async () => {
    const device = await open();
    const { program } = await everyOp(device, shapes[0]);
    const run = async (of: Program) => {
      const segments = call.lengths.map((rows) => ({ cache: device.cache(of), rows }));
      return (await device.run(of, { segments, ids: call.ids, outputs: [{ buffer: "x" }] }))[0];
    };
    const drops = dropping(program);
    const wanted = await run(twice(program));
    expect(await run(drops)).toEqual(wanted);
    const tape = await device.record(drops, call);
    expect(tape.output("x")).not.toEqual(wanted);
    expect(await run(drops)).toEqual(wanted);
    await device.close();
  });

  test("refuses a draw that is missing, wrong or of no use", async () => {
    const device = await open();
    const { program } = await everyOp(device, shapes[0]);
    const record = (of: Program, dropout: unknown) =>
      device.record(of, { ...call, dropout: dropout as DropoutDraw });
    const drops = dropping(program);
    await expect(record(drops, undefined)).rejects.toThrow(/give dropout: { seed, step }/);
    await expect(record(program, draw)).rejects.toThrow(/has no dropout ops/);
    await expect(record(drops, { seed: -1, step: 0 })).rejects.toThrow(/dropout.seed: .* got -1/);
    await expect(record(drops, { seed: 1, step: 0.5 })).rejects.toThrow(/dropout.step: .* got 0.5/);
    await expect(record(drops, { ...draw, batch: 2 ** 53 })).rejects.toThrow(/dropout.batch/);
    await expect(record(drops, { ...draw, rate: 1 })).rejects.toThrow(/unknown option "rate"/);
    await expect(device.record(drops, { ...call, seed: 1 } as typeof call)).rejects.toThrow(
      /record: unknown option "seed"/,
    );
    await expect(record(alone(4, 1), draw)).rejects.toThrow(
      /op 0 \(dropout\): rate: expected a number from 0 and below 1, got 1/,
    );
    await expect(record(alone(4, 0.1, -1), draw)).rejects.toThrow(/stream: expected a whole number/);
    const twin = { ...alone(4, 0.1), ops: [...alone(4, 0.1).ops, ...alone(4, 0.1).ops] };
    await expect(record(twin, draw)).rejects.toThrow(/op 1 \(dropout\): stream 0 is an earlier op's/);
    await device.close();
  });
});
