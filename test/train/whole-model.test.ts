import { describe, expect, test } from "vitest";
import type { BodySpec } from "../../src/body/spec.js";
import { bodyBuffers, bodyProgram } from "../../src/body/transformer.js";
import type { Device, Matrix } from "../../src/kernels/device.js";
import type { Program } from "../../src/kernels/op.js";
import { AdamW, adamwScalars } from "../../src/train/optimizers/adamw.js";
import { devices } from "../devices.js";
import { floats } from "../kernels/random.js";

const [V, D, T] = [23, 16, 12];
const hyper = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.01 };
/** Two sequences with a rule: the next id is 3 ids on, modulo 23. */
const lengths = [T, T - 3];
const ids = Int32Array.from({ length: 2 * T - 3 }, (_, i) => (i * 3 + (i < T ? 0 : 7)) % V);
const targets = ids.map((id) => (id + 3) % V);

interface Model {
  readonly program: Program;
  readonly table: Matrix;
  readonly matrices: readonly Matrix[];
  readonly vectors: readonly Float32Array[];
}

/** A GPT-2 or a Llama of one layer, its embedding tied to its head. */
async function build(device: Device, family: "gpt2" | "llama"): Promise<Model> {
  const matrices: Matrix[] = [];
  const vectors: Float32Array[] = [];
  const matrix = async (rows: number, cols: number) => {
    const data = floats(rows * cols, matrices.length + 1, 0.15);
    const read = async (first: number, count: number) =>
      new Uint8Array(data.slice(first * cols, (first + count) * cols).buffer);
    matrices.push(await device.matrix({ name: `w${matrices.length}`, rows, cols, type: "f32", read }));
    return matrices[matrices.length - 1];
  };
  const vector = (length: number, value: number) => {
    vectors.push(new Float32Array(length).fill(value));
    return vectors[vectors.length - 1];
  };
  const gpt = family === "gpt2";
  const linear = async (o: number, i: number) => ({
    weight: await matrix(o, i),
    ...(gpt && { bias: vector(o, 0) }),
  });
  const norm = () =>
    gpt
      ? ({ kind: "layer", weight: vector(D, 1), bias: vector(D, 0), eps: 1e-5 } as const)
      : ({ kind: "rms", weight: vector(D, 1), eps: 1e-6 } as const);
  const table = await matrix(V, D);
  const frequencies = Float64Array.of(1, 0.1);
  const body: BodySpec<Matrix> = {
    hiddenSize: D,
    maxPositions: T,
    ...(gpt && { positions: { table: await matrix(T, D), offset: 0 } }),
    layers: [
      {
        arrangement: "serial",
        attention: {
          heads: 4,
          kvHeads: gpt ? 4 : 2,
          headDim: 4,
          scale: 0.5,
          qkv: gpt ? [await linear(3 * D, D)] : [await linear(D, D), await linear(8, D), await linear(8, D)],
          output: await linear(D, D),
          normIn: norm(),
          ...(!gpt && { rope: { layout: "half", frequencies, attentionFactor: 1 } }),
        },
        mlp: {
          activation: gpt ? "geluTanh" : "silu",
          ...(!gpt && { gate: await linear(24, D) }),
          up: await linear(24, D),
          down: await linear(D, 24),
          normIn: norm(),
        },
      },
    ],
    finalNorm: norm(),
  };
  return { program: bodyProgram(body, { embed: { table, scale: 1 } }), table, matrices, vectors };
}

/** Losses of `steps` AdamW steps on all parameters. */
async function train(device: Device, { program, table, matrices, vectors }: Model, steps: number) {
  const zero = async (m: Matrix) =>
    device.matrix({
      name: `state of ${m.name}`,
      rows: m.rows,
      cols: m.cols,
      type: "f32",
      read: async (_, count) => new Uint8Array(count * m.cols * 4),
    });
  const into = {
    matrices: new Map<Matrix, Matrix>(),
    vectors: new Map(vectors.map((v) => [v, new Float32Array(v.length)])),
  };
  const state = new Map<Matrix, { m: Matrix; v: Matrix }>();
  for (const matrix of matrices) {
    into.matrices.set(matrix, await zero(matrix));
    state.set(matrix, { m: await zero(matrix), v: await zero(matrix) });
  }
  const names = vectors.map((_, i) => `v${i}`);
  const optimizer = new AdamW(
    vectors.map((v, i) => ({ name: names[i], shape: [v.length], kind: "vector" })),
    hyper,
  );
  const N = ids.length;
  const coefficients = new Float32Array(N).fill(1 / N);
  const head = { matrix: table, vocabSize: V, scale: 1 };
  const losses: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const tape = await device.record(program, { lengths, ids });
    const loss = await device.loss(head, tape.output(bodyBuffers.hidden), {
      ids: targets,
      perRow: 1,
      coefficients,
      gradients: { hidden: true, weight: into.matrices.get(table) },
    });
    losses.push(loss.logSumExp.reduce((sum, lse, n) => sum + (lse - loss.targetLogits[n]) / N, 0));
    await tape.backward({ buffer: bodyBuffers.hidden, gradient: loss.dHidden! }, into);
    tape.free();
    const scalars = adamwScalars({ ...hyper, learningRate: 0.01, step });
    await device.update(
      matrices.map((value) => ({
        kind: "adamw",
        value,
        gradient: into.matrices.get(value)!,
        ...state.get(value)!,
        scalars,
        factor: 1,
      })),
    );
    optimizer.step(
      new Map(vectors.map((v, i) => [names[i], v])),
      new Map(vectors.map((v, i) => [names[i], into.vectors.get(v)!])),
      0.01,
    );
    await device.changed(vectors);
    await device.zero([...into.matrices.values()]);
    for (const gradient of into.vectors.values()) gradient.fill(0);
  }
  return losses;
}

describe.each(["gpt2", "llama"] as const)("a %s of random weights, tied", (family) => {
  test("learns a rule; devices agree on the way, threads to the bit", async () => {
    const runs: number[][] = [];
    for (const [name, open] of devices) {
      const device = await open();
      const model = await build(device, family);
      runs.push(await train(device, model, name === "reference" ? 12 : 80));
      await device.close();
    }
    const [reference, one, three] = runs;
    expect(three).toEqual(one);
    for (const [step, loss] of reference.entries()) expect(Math.abs(loss - one[step])).toBeLessThan(2e-4);
    expect(one[0]).toBeGreaterThan(Math.log(V) - 0.5);
    expect(one.at(-1)).toBeLessThan(0.3);
  });
});
