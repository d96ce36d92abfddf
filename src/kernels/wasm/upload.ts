import { InputError, throwIfAborted } from "../../errors.js";
import type { MatrixSource } from "../device.js";
import { rowBytes } from "../format.js";
import { CTL_COUNT, CTL_FAULT, CTL_FAULT_AT, CTL_OPS, OPCODE, PANELS } from "./abi.js";
import type { Arena } from "./arena.js";
import type { WasmMatrix } from "./matrix.js";
import type { Pool } from "./pool.js";
import { Records } from "./records.js";

const STAGE = 1 << 18;

const kept = new WeakMap<Pool, Uint8Array[]>();

/**
 * Room for two parts, one being packed while the next is read. It is kept for later matrices: the collector lets tens of
 * megabytes of such arrays pile up, which would count in the peak of loading.
 */
function partsOf(pool: Pool, bytes: number): Uint8Array[] {
  let parts = kept.get(pool);
  if (!parts || parts[0].length < bytes) {
    parts = [new Uint8Array(Math.max(bytes, STAGE)), new Uint8Array(Math.max(bytes, STAGE))];
    if (bytes <= STAGE) kept.set(pool, parts);
  }
  return parts;
}

/** Reads a checkpoint's rows a part at a time into device memory and packs them into panels there. */
export async function upload(
  pool: Pool,
  arena: Arena,
  matrix: WasmMatrix,
  source: MatrixSource,
  signal?: AbortSignal,
): Promise<void> {
  if (source.rows === 0) return;
  const bytes = rowBytes(source.type, source.cols);
  const step = Math.min(Math.max(16, Math.floor(STAGE / bytes / 16) * 16), Math.ceil(source.rows / 16) * 16);
  // 16 bytes more: vector loads of the last block may look past it.
  const stage = arena.alloc(step * bytes + 16, `the staging of ${source.name}`);
  const list = arena.alloc(128, "an op list");
  const parts = partsOf(pool, step * bytes);
  let next: Promise<Uint8Array> | undefined;
  try {
    next = source.read(0, Math.min(step, source.rows), parts[0]);
    for (let first = 0; first < source.rows; first += step) {
      const count = Math.min(step, source.rows - first);
      const data = await next;
      throwIfAborted(signal);
      if (data.length !== count * bytes)
        throw new InputError(
          `${source.name}: rows ${first} to ${first + count} should be ${count * bytes} bytes, ${data.length} came`,
        );
      new Uint8Array(pool.memory.buffer, stage, data.length).set(data);
      const after = first + step;
      if (after < source.rows) {
        next = source.read(after, Math.min(step, source.rows - after), parts[(after / step) & 1]);
        next.catch(() => undefined); // awaited in the next turn; a failure here must not count as unhandled
      }
      const records = new Records();
      records.push(OPCODE.pack, true, [
        matrix.descriptor,
        stage,
        bytes,
        count,
        first,
        PANELS[source.type].stored,
      ]);
      records.write(pool.memory, list);
      pool.word(CTL_FAULT, 0);
      pool.word(CTL_OPS, list);
      pool.word(CTL_COUNT, 1);
      await pool.run(signal);
      if (pool.read(CTL_FAULT) !== 0)
        throw new InputError(
          `${source.name}: row ${pool.read(CTL_FAULT_AT)} holds NaN or infinity; the file is damaged or was saved from a broken training run`,
        );
    }
  } finally {
    // A read that is still under way writes into a part that the next matrix will use.
    await next?.catch(() => undefined);
    arena.release(stage);
    arena.release(list);
  }
}
