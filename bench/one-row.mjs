// One row through a float32 head, everything read once, against what this machine can read. node bench/one-row.mjs

import { dot, headOf, open, query } from "./heads.mjs";
import { assert, ceilings, interleave, median, normals, report } from "./lib.mjs";

for (const [V, D] of [
  [151936, 896],
  [50257, 768],
]) {
  const weight = normals(V * D, 1, 0.05);
  const hidden = normals(D, 2);
  const device = await open();
  const head = await headOf(device, weight, V, D);
  const probe = await ceilings(V * D * 4);
  const ask = () => device.ask(head, hidden, query({ logSumExp: true }));

  let sum = 0;
  for (let v = 0; v < V; v++) sum += Math.exp(dot(weight, hidden, v, D));
  const { logSumExp } = await ask();
  assert(
    Math.abs(logSumExp[0] - Math.log(sum)) < 1e-4,
    `log-sum-exp ${logSumExp[0]}, exactly ${Math.log(sum)}`,
  );

  const times = await interleave({ "reading the weights once": probe.read, "lmhead log-sum-exp": ask });
  const share = median(times["reading the weights once"]) / median(times["lmhead log-sum-exp"]);
  report(`one row, ${V}×${D} f32`, times, {
    what: "share of the read bandwidth",
    ratio: share,
    atLeast: 0.8,
  });
  console.log(
    `  bandwidth ${(probe.bytes / median(times["reading the weights once"]) / 1e6).toFixed(1)} GB/s`,
  );
  await probe.close();
  await device.close();
}
