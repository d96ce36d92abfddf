import { checkFields, InputError } from "../errors.js";
import type { Device } from "./device.js";
import { nodeOs } from "./node-os.js";
import { ReferenceDevice } from "./reference/device.js";
import { WasmDevice } from "./wasm/device.js";
import { simdAvailable, threadsAvailable } from "./wasm/pool.js";

/** Which device, and how many threads. */
export interface DeviceOptions {
  /** `auto` (default): WebAssembly where SIMD is there, else the plain reference. */
  device?: "auto" | "wasm" | "reference";
  /**
   * Threads of the WebAssembly device, 1 to 64; default: the processor's, at most 8. Results never depend on it. Where only
   * one can run (without SharedArrayBuffer, or `auto` without SIMD) the device's description says so.
   */
  threads?: number;
}

const MOST_THREADS = 64;

/**
 * Opens a device. Its workers never keep a Node process alive by themselves.
 * @throws InputError for an unknown device, a bad number of threads, `reference` with more than its one thread, or `wasm` where
 *   the engine has no SIMD
 */
export async function openDevice(options: DeviceOptions = {}): Promise<Device> {
  checkFields("openDevice", options, ["device", "threads"]);
  const { device = "auto", threads } = options;
  if (!["auto", "wasm", "reference"].includes(device))
    throw new InputError(`device: expected auto, wasm or reference, got ${JSON.stringify(device)}`);
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS))
    throw new InputError(`threads: expected a whole number from 1 to ${MOST_THREADS}, got ${threads}`);
  if (device === "reference" && threads !== undefined && threads > 1)
    throw new InputError(
      `threads: the reference device runs on 1, got ${threads}; leave threads out, or take device wasm`,
    );
  if (device === "reference") return new ReferenceDevice();
  const simd = simdAvailable();
  if (device === "wasm" && !simd)
    throw new InputError("device wasm: this JavaScript engine has no WebAssembly SIMD; use device reference");
  if (!simd) return new ReferenceDevice("this JavaScript engine has no WebAssembly SIMD");
  if (!threadsAvailable())
    return WasmDevice.start(
      0,
      "WebAssembly SIMD, 1 thread, on the caller's thread: this page or engine has no SharedArrayBuffer (pages need cross-origin isolation)",
    );
  const cores =
    typeof navigator === "object" && navigator.hardwareConcurrency > 0
      ? navigator.hardwareConcurrency
      : ((await nodeOs())?.availableParallelism() ?? 1);
  const count = threads ?? Math.min(8, cores);
  return WasmDevice.start(count, `WebAssembly SIMD, ${count} ${count === 1 ? "thread" : "threads"}`);
}
