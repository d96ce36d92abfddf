// A jax-js body under an lmhead head: jax-js computes the hidden states and, from their gradient, its own gradients; the
// head's weight, its gradient and its optimizer's state never leave the device. Any autodiff library can stand in front.
import { jit, numpy as np, tree, vjp } from "@jax-js/jax";
import { arraySource, crossEntropy, LinearHead, openDevice, updatesOf } from "lmhead";

const text = `the mouse ran up the clock. the clock struck one, the mouse ran down. the cat sat by the clock.
the clock struck two, the cat ran too. the dog lay down by the door. the clock struck three, and so ran he.
`;
const letters = [...new Set(text)].sort();
const [N, V, D, seen, width] = [text.length, letters.length, 64, 8, 12]; // a body sees 8 letters, and gives [N, D]
const ids = Array.from(text, (letter) => letters.indexOf(letter));
const targets = Int32Array.from({ length: N }, (_, n) => ids[(n + 1) % N]);

// The body: the last 8 letters, each as `width` numbers, through one layer. A matrix of ones and zeros picks the rows.
const context = (n) => Array.from({ length: seen }, (_, i) => ids[(n + 1 + i - seen + N) % N]);
const oneHot = (rows) =>
  np.array(Float32Array.from(rows.flatMap((id) => letters.map((_, c) => Number(c === id)))), {
    shape: [rows.length, V],
  });
const body = jit(({ table, weight, bias }, picks) => {
  const x = np.matmul(picks, table).reshape([-1, seen * width]);
  return np.tanh(np.matmul(x, weight).add(bias));
});
const wave = (rows, cols, size) =>
  np.array(
    Float32Array.from({ length: rows * cols }, (_, i) => size * Math.sin(i * i + 1)),
    { shape: [rows, cols] },
  );
let parameters = {
  table: wave(V, width, 1),
  weight: wave(seen * width, D, 0.15),
  bias: np.zeros([D]),
};
let velocity = tree.map((p) => np.zeros(p.shape), parameters);
const picks = oneHot(Array.from({ length: N }, (_, n) => context(n)).flat());

// The head: a weight [V, D], its gradient and AdamW's averages as matrices of the device; hidden states and their
// gradient as arrays in its memory, which crossEntropy reads and writes where they stand.
const device = await openDevice();
const zeros = (name) => device.matrix(arraySource(name, V, D, new Float32Array(V * D)));
const [weight, gradient, m, v] = await Promise.all(["weight", "gradient", "m", "v"].map(zeros));
const head = new LinearHead(device, { matrix: weight, vocabSize: V, scale: 1 });
const adamw = updatesOf({ name: "adamw" }, [{ name: "head", shape: [V, D], kind: "vocabulary" }]).get("head");
const [hidden, dHidden] = [device.array(N * D), device.array(N * D)];

const steps = 60;
for (let step = 1; step <= steps; step++) {
  const [out, back] = vjp((p) => body(p, picks.ref), [tree.ref(parameters)]);
  hidden.data.set(await out.data());
  await device.zero([gradient]);
  const gradients = { hidden: dHidden.data, weight: gradient };
  const { loss } = await crossEntropy(head, hidden.data, targets, { gradients });
  await device.update([adamw.onDevice(weight, gradient, [m, v], 0.02, step, 1)]);

  // jax-js goes on from the head's gradient; its own step is plain momentum.
  const [found] = back(np.array(dHidden.data, { shape: [N, D] }));
  velocity = tree.map((u, g) => u.mul(0.9).add(g), velocity, found);
  parameters = tree.map((p, u) => p.sub(u.ref.mul(0.3)), parameters, velocity);
  if (step === 1 || step % 20 === 0) console.log(`step ${step}: loss ${loss.toFixed(3)} nats a letter`);
}

// It goes on from the first eight letters, each time with the likeliest.
let written = text.slice(0, seen);
while (written.length < 60) {
  const last = Array.from(written.slice(-seen), (letter) => letters.indexOf(letter));
  const row = await body(tree.ref(parameters), oneHot(last)).data();
  const { topK } = await head.ask(row, { topK: 1 });
  written += letters[topK[0].ids[0]];
}
console.log(`it writes: ${written}`);
for (const array of [hidden, dHidden]) array.free();
await device.close();
