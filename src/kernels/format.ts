import { InputError } from "../errors.js";

/**
 * How a tensor's numbers are stored in a checkpoint. Names of GGUF's block formats are theirs (upper case);
 * `docs/formats.md` says what each holds.
 */
export type StoredType =
  | "f32"
  | "f16"
  | "bf16"
  | "Q8_0"
  | "Q4_0"
  | "Q4_1"
  | "Q5_0"
  | "Q5_1"
  | "Q4_K"
  | "Q5_K"
  | "Q6_K";

/** Numbers in a block and bytes of a block, for each stored type. */
export const BLOCKS: Record<StoredType, { size: number; bytes: number }> = {
  f32: { size: 1, bytes: 4 },
  f16: { size: 1, bytes: 2 },
  bf16: { size: 1, bytes: 2 },
  Q8_0: { size: 32, bytes: 34 },
  Q4_0: { size: 32, bytes: 18 },
  Q4_1: { size: 32, bytes: 20 },
  Q5_0: { size: 32, bytes: 22 },
  Q5_1: { size: 32, bytes: 24 },
  Q4_K: { size: 256, bytes: 144 },
  Q5_K: { size: 256, bytes: 176 },
  Q6_K: { size: 256, bytes: 210 },
};

/** Bytes of one stored row of `cols` numbers. @throws InputError when `cols` is not a whole number of blocks. */
export function rowBytes(type: StoredType, cols: number): number {
  const { size, bytes } = BLOCKS[type];
  if (cols % size !== 0)
    throw new InputError(`a row of ${cols} numbers is not a whole number of ${type} blocks of ${size}`);
  return (cols / size) * bytes;
}
