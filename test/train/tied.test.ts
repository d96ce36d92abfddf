import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { LinearHead } from "../../src/head/linear.js";
import type { Device, Matrix } from "../../src/kernels/device.js";
import type { Program } from "../../src/kernels/op.js";
import { crossEntropy } from "../../src/train/cross-entropy.js";
import { zeros } from "../../src/train/trainer/slot.js";
import { devices } from "../devices.js";
import { floatSource } from "../kernels/random.js";
import { shared, sharedPath } from "../shared.js";
import { readTensors } from "../tensors.js";

interface Case {
  readonly V: number;
  readonly D: number;
  readonly input_ids: number[];
  readonly target: number[];
  readonly loss: number;
}

function open(name: string): Case & { take(tensor: string): Float32Array; bias: Float32Array | undefined } {
  const folder = sharedPath(`cases/heads/${name}`);
  const tensors = readTensors(`${folder}/tensors.safetensors`);
  const take = (tensor: string) => {
    const found = tensors.get(tensor);
    if (!found) throw new Error(`${name} has no ${tensor}`);
    return found;
  };
  const facts = JSON.parse(readFileSync(`${folder}/case.json`, "utf8")) as Case;
  return { ...facts, take, bias: tensors.get("bias") };
}

/** Fails where a number is further than 1e-6 + 1e-5 · the largest expected from it (the tolerance of the cases). */
function expectClose(what: string, got: ArrayLike<number>, want: Float32Array): void {
  expect(got, what).toHaveLength(want.length);
  const largest = want.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  expect(largest, what).toBeGreaterThan(1e-3);
  for (let i = 0; i < want.length; i++)
    if (!(Math.abs(got[i] - want[i]) <= 1e-6 + 1e-5 * largest))
      throw new Error(`${what} at ${i}: got ${got[i]}, expected ${want[i]}`);
}

const numbersOf = (matrix: Matrix) => matrix.gather(Array.from({ length: matrix.rows }, (_, i) => i));

/** h = tanh(E[ids]·Aᵀ + a), logits = h·Eᵀ (+ b), with one matrix E on the device. */
async function place(device: Device, { V, D, take, bias }: ReturnType<typeof open>) {
  const embedding = await device.matrix(floatSource("embedding", V, D, take("embedding")));
  const weight = await device.matrix(floatSource("body", D, D, take("body_weight")));
  const bodyBias = take("body_bias");
  const program: Program = {
    buffers: { x: D, hidden: D },
    ops: [
      { op: "embed", table: embedding, out: "x", scale: 1 },
      { op: "matmul", in: "x", out: "hidden", outColumn: 0, weight, bias: bodyBias, accumulate: false },
      { op: "act", kind: "tanh", buffer: "hidden" },
    ],
    cache: [],
    maxPositions: 16,
  };
  const head = new LinearHead(device, { matrix: embedding, vocabSize: V, bias, scale: 1 });
  return { embedding, weight, bodyBias, program, head };
}

// PyTorch's numbers: the gradient of a tied embedding, its two parts and their sum.
describe.skipIf(!shared).each(devices)("a tied embedding, %s", (_, openDevice) => {
  test.each(["tied_lm", "tied_lm_bias"])(
    "receives the head's gradient and the lookup's: %s",
    async (name) => {
      const device = await openDevice();
      const known = open(name);
      const { embedding, weight, bodyBias, program, head } = await place(device, known);
      const run = { lengths: [known.input_ids.length], ids: Int32Array.from(known.input_ids) };

      /** Gradients with the head's in `headInto` and the lookup's in `lookupInto`. */
      const learn = async (headInto: Matrix, lookupInto: Matrix) => {
        const dWeight = await zeros(device, "gradient of body", weight);
        const dBias = new Float32Array(known.D);
        const tape = await device.record(program, run);
        const hidden = tape.output("hidden");
        const answer = await crossEntropy(head, hidden, known.target, {
          gradients: { hidden: true, weight: headInto, bias: known.bias !== undefined },
        });
        const into = {
          matrices: new Map([
            [embedding, lookupInto],
            [weight, dWeight],
          ]),
          vectors: new Map([[bodyBias, dBias]]),
        };
        await tape.backward({ buffer: "hidden", gradient: answer.hidden! }, into);
        tape.free();
        return { ...answer, states: hidden, dWeight: await numbersOf(dWeight), dBias };
      };

      const fromHead = await zeros(device, "gradient of the head", embedding);
      const fromLookup = await zeros(device, "gradient of the lookup", embedding);
      await learn(fromHead, fromLookup);
      expectClose("head", await numbersOf(fromHead), known.take("grad_embedding_from_head"));
      expectClose("lookup", await numbersOf(fromLookup), known.take("grad_embedding_from_lookup"));

      const both = await zeros(device, "gradient", embedding);
      const { loss, states, bias, dWeight, dBias } = await learn(both, both);
      expect(Math.abs(loss - known.loss)).toBeLessThan(1e-6 + 1e-5 * known.loss);
      expectClose("hidden", states, known.take("hidden"));
      expectClose("sum", await numbersOf(both), known.take("grad_embedding"));
      expectClose("body weight", dWeight, known.take("grad_body_weight"));
      expectClose("body bias", dBias, known.take("grad_body_bias"));
      if (known.bias) expectClose("bias", bias!, known.take("grad_bias"));
      await device.close();
    },
  );
});
