import { InputError } from "../errors.js";
import type { Device, MatrixSource } from "../kernels/device.js";
import { nodeOs } from "../kernels/node-os.js";
import type { Program } from "../kernels/op.js";
import { BLOCK, matrixBytes } from "../kernels/wasm/abi.js";
import { cacheLayout } from "../kernels/wasm/cache.js";

/** 32-bit WebAssembly memory, less what buffers, caches and the head's screening rows take of it. */
const WASM_WEIGHTS = 3.75 * 2 ** 30;

/** The same, less what the buffers of one call take. */
const WASM_CACHES = 3.875 * 2 ** 30;

/** Bytes a weight, as the device holds them with rows of blocks: what to name to a person whose model is too big. */
const SMALLER = [
  { name: "f16 or bf16", bytes: 2 },
  { name: "Q8_0", bytes: 36 / 32 },
  { name: "Q4_0", bytes: 20 / 32 },
] as const;

/** Bytes that these matrices will take on a device: on the reference all of them are float32. */
export function deviceBytes(device: Pick<Device, "kind">, sources: readonly MatrixSource[]): number {
  return sources.reduce(
    (sum, { type, rows, cols }) =>
      sum + (device.kind === "wasm" ? matrixBytes(type, rows, cols) : rows * cols * 4),
    0,
  );
}

/** Bytes that there are for weights on a device of this kind; Infinity where nobody can tell (the reference in a browser). */
export async function weightLimit(device: Pick<Device, "kind">): Promise<number> {
  if (device.kind === "wasm") return WASM_WEIGHTS;
  const os = await nodeOs();
  if (!os) return Infinity;
  // What a container allows; 0 where there is no such bound.
  return Math.min(os.totalmem(), process.constrainedMemory?.() || Infinity);
}

/**
 * Refuses a model whose weights do not fit a device's memory, before any of them is read.
 * @param limit as `weightLimit` says
 * @throws InputError with what it needs, what there is, and how it would fit
 */
export function checkFits(
  device: Pick<Device, "kind" | "memory">,
  sources: readonly MatrixSource[],
  limit: number,
): void {
  const needed = deviceBytes(device, sources);
  const free = limit - device.memory;
  if (needed <= free) return;
  if (device.kind === "wasm")
    throw new InputError(
      `the model's weights take ${gib(needed)}, but ${gib(free)} of 32-bit WebAssembly's 4 GiB are left for them; ${smaller(sources, free)}`,
    );
  const stored = deviceBytes({ kind: "wasm" }, sources);
  throw new InputError(
    `the model's weights take ${gib(needed)} in float32, as the reference device holds them, but ${gib(free)} of this machine's memory are left for them; ${
      stored <= WASM_WEIGHTS
        ? `the wasm device holds them in ${gib(stored)}`
        : `take a model of at most ${Math.floor(free / 4e6)} million weights`
    }`,
  );
}

/** In which format the weights would fit, or how many would. */
function smaller(sources: readonly MatrixSource[], free: number): string {
  const weights = sources.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  const format = SMALLER.find(({ bytes }) => weights * bytes <= free);
  return format
    ? `stored as ${format.name} it would take about ${gib(weights * format.bytes)}`
    : `take a model of at most ${Math.floor(free / SMALLER[2].bytes / 1e6)} million weights`;
}

/** Positions of one more sequence whose keys and values a device's memory still holds; Infinity where nobody knows. */
export function fittingPositions(
  device: Pick<Device, "kind" | "memory">,
  program: Pick<Program, "cache">,
  limit: number = WASM_CACHES,
): number {
  if (device.kind !== "wasm") return Infinity;
  return BLOCK * Math.max(0, Math.floor((limit - device.memory) / cacheLayout(program).bytes));
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(bytes < 2 ** 30 ? 3 : 2)} GiB`;
}
