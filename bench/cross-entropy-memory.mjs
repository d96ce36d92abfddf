// The memory that lmhead's linear + cross-entropy with both gradients takes at most, above what the process had before
// there were arrays, as cross_entropy.py says of PyTorch's. Prints it in bytes. For cross-entropy.mjs:
// node bench/cross-entropy-memory.mjs D weights hidden targets (files as `arrayFiles` writes them).
import { closeSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { open } from "./heads.mjs";

const D = Number(process.argv[2]);
const [weightFile, hiddenFile, targetFile] = process.argv.slice(3);
const device = await open();
const base = process.memoryUsage.rss();

const file = openSync(weightFile);
const V = fstatSync(file).size / (4 * D);
const fromFile = async (first, count) => {
  const bytes = new Uint8Array(count * D * 4);
  readSync(file, bytes, 0, bytes.length, first * D * 4);
  return bytes;
};
const zeros = async (_, count) => new Uint8Array(count * D * 4);
const matrix = (name, read) => device.matrix({ name, rows: V, cols: D, type: "f32", read });
const head = { matrix: await matrix("weight", fromFile), vocabSize: V, scale: 1 };
closeSync(file);
const weight = await matrix("gradient", zeros);
const array = (Type, path) => {
  const { buffer, byteOffset, length } = readFileSync(path);
  return new Type(buffer, byteOffset, length / 4);
};
const [hidden, ids] = [array(Float32Array, hiddenFile), array(Int32Array, targetFile)];
const coefficients = new Float32Array(ids.length).fill(1 / ids.length);
for (let round = 0; round < 3; round++) {
  await device.zero([weight]);
  await device.loss(head, hidden, { ids, perRow: 1, coefficients, gradients: { hidden: true, weight } });
}
console.log(process.resourceUsage().maxRSS * 1024 - base);
process.exit(0);
