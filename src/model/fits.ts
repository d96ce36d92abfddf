import { InputError } from "../errors.js";
import type { Device, MatrixSource } from "../kernels/device.js";
import { rowBytes } from "../kernels/format.js";
import { matrixBytes } from "../kernels/wasm/abi.js";

/** 32-bit WebAssembly memory, less what buffers, caches and the head's screening rows take of it. */
const WASM_WEIGHTS = 3.75 * 2 ** 30;

/** Bytes a weight, as the device holds them with rows of blocks: what to name to a person whose model is too big. */
const SMALLER = [
  { name: "f16 or bf16", bytes: 2 },
  { name: "Q8_0", bytes: 36 / 32 },
  { name: "Q4_0", bytes: 20 / 32 },
] as const;

/** Bytes that these matrices will take on a device. */
export function deviceBytes(device: Pick<Device, "kind">, sources: readonly MatrixSource[]): number {
  const one = ({ type, rows, cols }: MatrixSource) =>
    device.kind === "wasm" ? matrixBytes(type, rows, cols) : rows * rowBytes(type, cols);
  return sources.reduce((sum, source) => sum + one(source), 0);
}

/**
 * Refuses a model whose weights do not fit a device's memory, before any of them is read.
 * @throws InputError with what it needs, what there is, and in which format it would fit
 */
export function checkFits(
  device: Pick<Device, "kind" | "memory">,
  sources: readonly MatrixSource[],
  limit: number = WASM_WEIGHTS,
): void {
  if (device.kind !== "wasm") return;
  const needed = deviceBytes(device, sources);
  const free = limit - device.memory;
  if (needed <= free) return;
  const weights = sources.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  const smaller = SMALLER.find(({ bytes }) => weights * bytes <= free);
  const advice = smaller
    ? `stored as ${smaller.name} it would take about ${gib(weights * smaller.bytes)}`
    : `take a model of at most ${Math.floor(free / SMALLER[2].bytes / 1e6)} million weights`;
  throw new InputError(
    `the model's weights take ${gib(needed)}, but ${gib(free)} of 32-bit WebAssembly's 4 GiB are left for them; ${advice}`,
  );
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(bytes < 2 ** 30 ? 3 : 2)} GiB`;
}
