import { readFileSync } from "node:fs";

/** Reads an f32 safetensors file of known good making: name → numbers. */
export function readTensors(path: string): Map<string, Float32Array> {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  const out = new Map<string, Float32Array>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [from, to] = entry.data_offsets;
    out.set(
      name,
      new Float32Array(Uint8Array.from(bytes.subarray(8 + length + from, 8 + length + to)).buffer),
    );
  }
  return out;
}
