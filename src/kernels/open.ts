import { checkFields, InputError } from "../errors.js";
import type { Device } from "./device.js";
import { ReferenceDevice } from "./reference/device.js";
import { WasmDevice } from "./wasm/device.js";
import { simdAvailable, threadsAvailable } from "./wasm/pool.js";

/** Which device, and how many threads. */
export interface DeviceOptions {
  /** `auto` (default): WebAssembly where SIMD is there, else the plain reference. */
  device?: "auto" | "wasm" | "reference";
  /** Threads of the WebAssembly device; default: the processor's, at most 8. Results never depend on it. */
  threads?: number;
}

const MOST_THREADS = 64;

/**
 * Opens a device. Its workers never keep a Node process alive by themselves.
 * @throws InputError for an unknown device, a bad number of threads, or `wasm` where the engine has no SIMD
 */
export async function openDevice(options: DeviceOptions = {}): Promise<Device> {
  checkFields("openDevice", options, ["device", "threads"]);
  const { device = "auto", threads } = options;
  if (!["auto", "wasm", "reference"].includes(device))
    throw new InputError(`device: expected auto, wasm or reference, got ${JSON.stringify(device)}`);
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS))
    throw new InputError(`threads: expected a whole number from 1 to ${MOST_THREADS}, got ${threads}`);
  const simd = simdAvailable();
  if (device === "wasm" && !simd)
    throw new InputError("device wasm: this JavaScript engine has no WebAssembly SIMD; use device reference");
  if (device === "reference" || !simd) return new ReferenceDevice();
  if (!threadsAvailable())
    return WasmDevice.start(
      0,
      "WebAssembly SIMD, 1 thread, on the caller's thread: this page or engine has no SharedArrayBuffer (pages need cross-origin isolation)",
    );
  const cores =
    typeof navigator === "object" && navigator.hardwareConcurrency > 0
      ? navigator.hardwareConcurrency
      : await nodeCores();
  const count = threads ?? Math.min(8, cores);
  return WasmDevice.start(count, `WebAssembly SIMD, ${count} ${count === 1 ? "thread" : "threads"}`);
}

async function nodeCores(): Promise<number> {
  if (typeof process !== "object" || !process.versions?.node) return 1;
  const name = "node:os"; // put together so that bundlers for browsers leave it alone
  const os = (await import(/* @vite-ignore */ name)) as typeof import("node:os");
  return os.availableParallelism();
}
