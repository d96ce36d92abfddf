import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AbortError, InputError } from "../../src/errors.js";
import type { Device } from "../../src/kernels/device.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { ROWS_OF_A_CALL } from "../../src/model/runner.js";
import { devices } from "../devices.js";
import { tinyModel } from "../fixtures/tiny-models.js";

/** Ids that take the device more than one call. */
const many = (from: number) => Array.from({ length: ROWS_OF_A_CALL + 20 }, (_, i) => (from + i * 7) % 100);

describe.each(devices)("feeds of one session that do not wait for each other, on %s", (_, open) => {
  let device: Device;
  let model: LanguageModel;
  beforeAll(async () => {
    device = await open();
    const files = tinyModel("llama", 1, { config: { max_position_embeddings: 2048 } });
    model = await LanguageModel.load(files, { device });
  });
  afterAll(async () => {
    await model.close();
    await device.close();
  });

  test("append whole, in the order of the calls", async () => {
    const [a, b, c] = [many(1), many(2), [5, 6]];
    const apart = model.session();
    const expected = [await apart.feed(a), await apart.feed(b), await apart.feed(c)];
    const together = model.session();
    const given = [...b];
    const feeds = [together.feed(a), together.feed(given), together.feed(c)];
    given.fill(0); // the call has taken its own
    expect(await Promise.all(feeds)).toEqual(expected);
    expect(together.ids).toEqual([...a, ...b, ...c]);
    expect(together.length).toBe(a.length + b.length + c.length);
    apart.close();
    together.close();
  });

  test("one that is aborted, waiting or at work, or refused, takes nothing of the others", async () => {
    const expected = model.session();
    await expected.feed([...many(1), ...many(3)]);
    const after = await expected.feed([8]);
    for (const delay of [0, 3]) {
      const session = model.session();
      const controller = new AbortController();
      const first = session.feed(many(1));
      const second = session.feed(many(2), { signal: controller.signal });
      const refused = session.feed([]);
      const third = session.feed(many(3));
      const last = session.feed([8]);
      const aborted = expect(second).rejects.toThrow(AbortError);
      const none = expect(refused).rejects.toThrow(/no ids/);
      if (delay > 0) await first;
      controller.abort();
      await aborted;
      await none;
      await Promise.all([first, third]);
      expect(await last).toEqual(after);
      expect(session.ids).toEqual([...many(1), ...many(3), 8]);
      session.close();
    }
    expected.close();
  });

  test("a fork has only what was fed, and nothing is cut while a feed is under way", async () => {
    const plain = model.session();
    await plain.feed([1, 2, 3]);
    const expected = await plain.feed([9]);
    const session = model.session();
    await session.feed([1, 2, 3]);
    const grown = session.feed(many(4));
    const fork = session.fork();
    expect(() => session.truncate(1)).toThrow(InputError);
    expect(session.length).toBe(3);
    expect(await fork.feed([9])).toEqual(expected);
    await grown;
    session.truncate(3);
    expect(await session.feed([9])).toEqual(expected);
    for (const one of [plain, session, fork]) one.close();
  });
});
