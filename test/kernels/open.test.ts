import { afterEach, describe, expect, it, vi } from "vitest";
import { InputError } from "../../src/errors.js";
import { LinearHead } from "../../src/head/linear.js";
import { type DeviceOptions, openDevice } from "../../src/kernels/open.js";

afterEach(() => vi.restoreAllMocks());

describe("openDevice", () => {
  it("says whether the reference was asked for or SIMD is missing", async () => {
    const asked = await openDevice({ device: "reference" });
    expect(asked.description).toBe("plain TypeScript reference, 1 thread: exact and slow");
    vi.spyOn(WebAssembly, "validate").mockReturnValue(false);
    const fallback = await openDevice({ threads: 3 });
    expect(fallback.kind).toBe("reference");
    expect(fallback.description).toBe(
      "plain TypeScript reference, 1 thread: exact and slow; this JavaScript engine has no WebAssembly SIMD",
    );
    expect((await openDevice({ device: "reference" })).description).toBe(asked.description);
    await expect(openDevice({ device: "wasm" })).rejects.toThrow(/no WebAssembly SIMD; use device reference/);
  });

  it("says why there is one thread where memory can't be shared", async () => {
    vi.stubGlobal("SharedArrayBuffer", undefined);
    const device = await openDevice({ threads: 4 });
    vi.unstubAllGlobals();
    expect(device.threads).toBe(1);
    expect(device.description).toMatch(/1 thread, on the caller's thread: .* no SharedArrayBuffer/);
    await device.close();
  });

  it("refuses threads that the reference does not have", async () => {
    await expect(openDevice({ device: "reference", threads: 8 })).rejects.toThrow(
      "threads: the reference device runs on 1, got 8; leave threads out, or take device wasm",
    );
    expect((await openDevice({ device: "reference", threads: 1 })).threads).toBe(1);
  });
});

describe("where a head runs", () => {
  const shape = { vocabSize: 5, hiddenSize: 2, seed: 1 };
  it.each<[string, DeviceOptions["device"] | DeviceOptions, string]>([
    ["a name", "reference", "reference"],
    ["another", "wasm", "wasm"],
    ["options", { device: "reference" }, "reference"],
    ["options with threads", { device: "wasm", threads: 1 }, "wasm"],
  ])("%s", async (_, device, kind) => {
    const head = await LinearHead.random({ ...shape, device });
    expect(head.device.kind).toBe(kind);
    await head.close();
    const arrays = { weight: new Float32Array(10), vocabSize: 5, hiddenSize: 2, device };
    const other = await LinearHead.fromArrays(arrays);
    expect(other.device.kind).toBe(kind);
    await other.close();
  });

  it.each([["gpu"], [7], [null], [{ device: "gpu" }], [{ thread: 1 }]])("refuses %j", async (device) => {
    await expect(LinearHead.random({ ...shape, device: device as "wasm" })).rejects.toThrow(InputError);
  });
});
