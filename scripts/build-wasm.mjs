// Compiles the kernels twice (with shared memory and without) and writes them, base64, into one generated module, so
// that no bundler, browser or package needs to find a .wasm file.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import asc from "assemblyscript/asc";

const folder = mkdtempSync(join(tmpdir(), "lmhead-wasm-"));
async function compile(shared) {
  const out = join(folder, `${shared}.wasm`);
  const args = [
    "src/kernels/wasm/assembly/index.ts",
    "-o",
    out,
    "-O3",
    "--converge",
    "--noAssert",
    "--runtime",
    "stub",
  ];
  args.push("--use", "abort=", "--importMemory", "--initialMemory", "1", "--maximumMemory", "65536");
  args.push("--memoryBase", "8192", "--enable", "simd,threads,sign-extension,bulk-memory,nontrapping-f2i");
  if (shared) args.push("--sharedMemory");
  const { error, stderr } = await asc.main(args, { stdout: process.stdout, stderr: process.stderr });
  if (error) throw new Error(`asc: ${error.message} ${stderr ?? ""}`);
  return readFileSync(out).toString("base64");
}
const shared = await compile(true);
const unshared = await compile(false);
rmSync(folder, { recursive: true });
writeFileSync(
  "src/kernels/wasm/binary.gen.ts",
  `// Made by scripts/build-wasm.mjs from assembly/.\nexport const SHARED_WASM: string =\n  "${shared}";\nexport const UNSHARED_WASM: string =\n  "${unshared}";\n`,
);
console.log(`kernels: ${(shared.length * 0.75) | 0} bytes`);
