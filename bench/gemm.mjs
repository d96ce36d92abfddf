// A float32 product of many rows against what 128-bit SIMD can do at best on this machine, in registers alone.

import { dot, headOf, open } from "./heads.mjs";
import { assert, ceilings, interleave, median, normals, report } from "./lib.mjs";

const [N, K, O] = [1024, 768, 3072];
const weight = normals(O * K, 1);
const input = normals(N * K, 2);
const device = await open();
const { matrix } = await headOf(device, weight, O, K);
const program = {
  buffers: { x: K, y: O },
  ops: [{ op: "matmul", in: "x", out: "y", outColumn: 0, weight: matrix, accumulate: false }],
  cache: [],
  maxPositions: N,
};
const cache = device.cache(program);
// One row is handed back: copying all of them to JavaScript is not the product's time.
const product = async (rows) => {
  cache.truncate(0);
  const vectors = { into: "x", data: input };
  const [out] = await device.run(program, {
    segments: [{ cache, rows: N }],
    vectors,
    outputs: [{ buffer: "y", rows }],
  });
  return out;
};
const probe = await ceilings(4096, 2 * N * K * O);

const rows = Int32Array.from([0, 511, 1023]);
const out = await product(rows);
rows.forEach((n, i) => {
  for (const o of [0, 1, 777, O - 1]) {
    const exact = dot(weight, input.subarray(n * K, (n + 1) * K), o, K);
    assert(
      Math.abs(out[i * O + o] - exact) < 1e-3,
      `row ${n}, column ${o}: ${out[i * O + o]}, exactly ${exact}`,
    );
  }
});

const times = await interleave({
  "lmhead f32 product": () => product(Int32Array.of(0)),
  "f32 SIMD ceiling": probe.peak,
});
report(`${N}×${K} · ${K}×${O}, f32`, times, {
  what: "share of the ceiling",
  ratio: median(times["f32 SIMD ceiling"]) / median(times["lmhead f32 product"]),
  atLeast: 0.85,
});
await probe.close();
await device.close();
