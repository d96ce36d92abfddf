import type { Device } from "../src/kernels/device.js";
import { openDevice } from "../src/kernels/open.js";

/** The devices on which a test of anything above kernels runs: `describe.each(devices)("…", (_, open) => …)`. */
export const devices: readonly [name: string, open: () => Promise<Device>][] = [
  ["reference", () => openDevice({ device: "reference" })],
  ["wasm, 1 thread", () => openDevice({ device: "wasm", threads: 1 })],
  ["wasm, 3 threads", () => openDevice({ device: "wasm", threads: 3 })],
];
