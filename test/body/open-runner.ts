import { readHuggingFace } from "../../src/body/families/index.js";
import { uploadBody } from "../../src/body/upload.js";
import type { Device } from "../../src/kernels/device.js";
import type { FileSet } from "../../src/model/formats/checkpoint.js";
import { readJson } from "../../src/model/formats/files.js";
import { openSafetensorsFolder } from "../../src/model/formats/safetensors.js";
import { Runner } from "../../src/model/runner.js";
import { Embedding } from "../../src/vocab/embedding.js";
import { VocabMatrix } from "../../src/vocab/vocab-matrix.js";

/** Embedding and body of a Hugging Face folder on a device, without tokenizer and head. */
export async function openRunner(files: FileSet, device: Device): Promise<Runner> {
  const checkpoint = await openSafetensorsFolder(files);
  try {
    const { spec } = await readHuggingFace("config.json", await readJson(files, "config.json"), checkpoint);
    const vocab = await VocabMatrix.load(device, spec.embedding.table);
    const body = await uploadBody(spec.body, device);
    return new Runner(device, body, new Embedding(vocab, spec.embedding.scale));
  } finally {
    await checkpoint.close();
  }
}

/** Largest |a - b| / (1e-4 + 1e-4·|b|): at most 1 is within the tolerance of a float32 body. */
export function excess(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths differ: ${a.length} and ${b.length}`);
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    const ratio = Math.abs(a[i] - b[i]) / (1e-4 + 1e-4 * Math.abs(b[i]));
    if (!(ratio <= worst)) worst = ratio;
  }
  return worst;
}
