import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../src/kernels/device.js";
import { ROWS_OF_A_CALL } from "../../src/model/runner.js";
import { devices } from "../devices.js";
import { type TinyFamily, tinyFamilies, tinyModel, tinyRows } from "../fixtures/tiny-models.js";
import { excess, openRunner } from "./open-runner.js";

/**
 * Hidden states of the tiny models, as the reference computed them when it agreed with transformers on all the cases
 * of oracle.test.ts. LMHEAD_WRITE_GOLDEN=1 writes them anew: only for a reference that passes those.
 */
const file = fileURLToPath(new URL("../fixtures/golden-hidden.json", import.meta.url));
const writing = process.env.LMHEAD_WRITE_GOLDEN === "1";
const golden: Record<string, number[]> = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};

const ids = Array.from({ length: 21 }, (_, i) => (i * 37 + 11) % tinyRows);

describe.each(devices)("tiny models on %s", (deviceName, open) => {
  let device: Device;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device.close());

  test.each(tinyFamilies)("%s: the golden hidden states", async (family: TinyFamily) => {
    const runner = await openRunner(tinyModel(family), device);
    const [{ hidden }] = await runner.run([{ cache: runner.cache(), ids }], { rows: "all" });
    // The first row, one in the middle, the last.
    const rows = [0, 10, 20].flatMap((n) =>
      Array.from(hidden.subarray(n * runner.dim, (n + 1) * runner.dim)),
    );
    if (writing && deviceName === "reference") {
      golden[family] = rows;
      mkdirSync(fileURLToPath(new URL("../fixtures/", import.meta.url)), { recursive: true });
      writeFileSync(file, `${JSON.stringify(golden)}\n`);
    }
    expect(excess(rows, golden[family])).toBeLessThan(1);
  });

  test.each(tinyFamilies)("%s: one row at a time, packed and forked give the same bits", async (family) => {
    const runner = await openRunner(tinyModel(family), device);
    const [whole] = await runner.run([{ cache: runner.cache(), ids }], { rows: "all" });
    const D = runner.dim;
    const row = (n: number) => whole.hidden.subarray(n * D, (n + 1) * D);

    const stepped = runner.cache();
    for (const [n, id] of ids.entries()) {
      const [{ hidden }] = await runner.run([{ cache: stepped, ids: [id] }]);
      expect(hidden).toEqual(row(n));
    }
    const caches = [runner.cache(), runner.cache(), runner.cache()];
    const lengths = [21, 1, 13];
    const packed = await runner.run(caches.map((cache, i) => ({ cache, ids: ids.slice(0, lengths[i]) })));
    for (const [i, { hidden }] of packed.entries()) expect(hidden).toEqual(row(lengths[i] - 1));

    const fork = caches[2].fork();
    await runner.run([{ cache: caches[2], ids: [1, 2, 3] }]);
    const [forked] = await runner.run([{ cache: fork, ids: ids.slice(13) }]);
    expect(forked.hidden).toEqual(row(20));
    fork.truncate(5);
    const [again] = await runner.run([{ cache: fork, ids: ids.slice(5, 9) }]);
    expect(again.hidden).toEqual(row(8));
  });

  test("rows beyond one call of the device", async () => {
    const long = Array.from({ length: 2 * ROWS_OF_A_CALL + 7 }, (_, i) => (i * 31) % tinyRows);
    const bend = { config: { max_position_embeddings: 1000 } };
    const runner = await openRunner(tinyModel("llama", 1, bend), device);
    const [all] = await runner.run([{ cache: runner.cache(), ids: long }], { rows: "all", layers: [0] });
    const [head] = await runner.run([{ cache: runner.cache(), ids: long.slice(0, ROWS_OF_A_CALL + 1) }]);
    const D = runner.dim;
    expect(head.hidden).toEqual(all.hidden.subarray(ROWS_OF_A_CALL * D, (ROWS_OF_A_CALL + 1) * D));
    const cache = runner.cache();
    await runner.run([{ cache, ids: long.slice(0, 300) }]);
    const [rest] = await runner.run([{ cache, ids: long.slice(300) }]);
    expect(rest.hidden).toEqual(all.hidden.subarray((long.length - 1) * D));
    expect(all.layers.get(0)!.subarray(D, 2 * D)).toEqual(await runner.embedding.vectors([long[1]]));
  });

  test("a failed call leaves caches as they were", async () => {
    const runner = await openRunner(tinyModel("gpt2"), device);
    const cache = runner.cache();
    await runner.run([{ cache, ids: [1, 2, 3] }]);
    await expect(runner.run([{ cache, ids: [tinyRows] }])).rejects.toThrow(
      new RegExp(`id ${tinyRows} at position 0`),
    );
    await expect(runner.run([{ cache, ids: Array(46).fill(1) }])).rejects.toThrow(/49 tokens.*holds 48/);
    const controller = new AbortController();
    controller.abort();
    await expect(runner.run([{ cache, ids: [4] }], { signal: controller.signal })).rejects.toThrow(/aborted/);
    expect(cache.length).toBe(3);
  });
});
