// What every benchmark shares: the processor's name, a timer that interleaves, the two ceilings, and the table.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";

export const root = fileURLToPath(new URL("..", import.meta.url));
export const threads = Math.min(2, cpus().length);
/** The model of the decode, prefill and load benchmarks: an argument, or SmolLM2 where ../shared is there. */
export const smollm2 = resolve(
  process.argv[2] ??
    join(root, "../shared/data/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"),
);

/** "AMD EPYC …, 2 threads, avx512f avx2, Node 20.20.2" */
export function processor() {
  let flags = "";
  try {
    const info = readFileSync("/proc/cpuinfo", "utf8");
    flags = ["avx512f", "avx512_vnni", "avx2"].filter((flag) => info.includes(flag)).join(" ");
  } catch {}
  return `${cpus()[0].model.trim()}, ${threads} threads, ${flags || process.arch}, Node ${process.versions.node}`;
}

/** Imports a rival from bench/node_modules, or from the folder in LMHEAD_RIVALS. */
export async function rival(name) {
  const from = process.env.LMHEAD_RIVALS ?? dirname(fileURLToPath(import.meta.url));
  try {
    const require = createRequire(join(from, "package.json"));
    // Packages that are ES modules only cannot be required: find the folder and import its entry.
    const folder = require.resolve.paths(name)[0];
    const manifest = JSON.parse(readFileSync(join(folder, name, "package.json"), "utf8"));
    const entry = manifest.type === "module" ? esmEntry(manifest) : undefined;
    const path = entry ? join(folder, name, entry) : require.resolve(name);
    const module = await import(pathToFileURL(path).href);
    return module.InferenceSession || module.getLlama ? module : module.default;
  } catch (error) {
    throw new Error(`${name} is missing: run \`npm i --ignore-scripts\` in bench/ (${error.message})`);
  }
}

function esmEntry(manifest) {
  let entry = manifest.exports?.["."] ?? manifest.main;
  while (typeof entry === "object") entry = entry.node ?? entry.import ?? entry.default;
  return entry;
}

const pause = () => new Promise((done) => setTimeout(done, 30));

/**
 * Runs the contestants in turn, `rounds` times, so that a change of the machine's mood meets all alike. Each turn is
 * a pause (a rival's threads spin for a while after their work and would take a core from whoever comes next), one
 * run that is not counted, and `burst` runs that are; burst 0 counts the only run.
 * @returns name → sorted times in milliseconds.
 */
export async function interleave(contestants, rounds = 7, burst = 3) {
  const times = Object.fromEntries(Object.keys(contestants).map((name) => [name, []]));
  for (let round = -1; round < rounds; round++)
    for (const [name, run] of Object.entries(contestants)) {
      await pause();
      for (let i = burst > 0 ? -1 : 0; i < Math.max(1, burst); i++) {
        const started = performance.now();
        await run();
        if (round >= 0 && i >= 0) times[name].push(performance.now() - started);
      }
    }
  for (const list of Object.values(times)) list.sort((a, b) => a - b);
  return times;
}

export const median = (sorted) => sorted[sorted.length >> 1];

/** Prints the medians with their quartiles, then the ratio that the claim is about. */
export function report(title, times, claim) {
  console.log(`\n${title}\n${processor()}`);
  for (const [name, list] of Object.entries(times)) {
    const [low, mid, high] = [list[list.length >> 2], median(list), list[(list.length * 3) >> 2]];
    console.log(
      `  ${name.padEnd(44)} ${mid.toFixed(2).padStart(9)} ms   (${low.toFixed(2)} to ${high.toFixed(2)})`,
    );
  }
  if (claim) verdict(claim.what, claim.ratio, claim.atLeast);
}

export function verdict(what, ratio, atLeast) {
  const word = ratio >= atLeast ? "met" : "NOT MET";
  console.log(`  ${what}: ${ratio.toFixed(2)}, wanted ${atLeast}: ${word}`);
}

/** Normally distributed float32 numbers by seed (mulberry32 and Box–Muller), times `scale`. */
export function normals(length, seed, scale = 1) {
  const out = new Float32Array(length);
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  for (let i = 0; i < length; i += 2) {
    const radius = scale * Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < length) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

export function assert(holds, message) {
  if (!holds) throw new Error(`wrong answer, so there is nothing to time: ${message}`);
}

/** The ceilings, each on all threads: `read()` reads `bytes` once, `peak()` does `operations` f32 operations. */
export async function ceilings(bytes, operations = 4e9) {
  const folder = mkdtempSync(join(tmpdir(), "lmhead-probe-"));
  const binary = join(folder, "probe.wasm");
  const { default: asc } = await import("assemblyscript/asc");
  const args = [join(root, "bench/probe.ts"), "-o", binary, "-O3", "--noAssert", "--runtime", "stub"];
  args.push("--importMemory", "--sharedMemory", "--initialMemory", "1", "--maximumMemory", "65536");
  args.push("--memoryBase", "1024", "--enable", "simd,threads");
  // asc wants paths below its base directory.
  const { error, stderr } = await asc.main(["--baseDir", "/", ...args]);
  if (error) throw new Error(`asc: ${error.message}\n${stderr}`);
  const module = await WebAssembly.compile(readFileSync(binary));
  rmSync(folder, { recursive: true });

  const share = Math.ceil(bytes / threads / 128) * 128;
  const pages = Math.ceil((65536 + share * threads) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
  new Float32Array(memory.buffer).fill(1e-3); // touched, or the kernel maps one page of zeros to all of it
  const rounds = Math.ceil(operations / threads / 96);
  const workers = await Promise.all(
    Array.from({ length: threads }, (_, index) =>
      spawn({ module, memory, at: 65536 + index * share, share, rounds }),
    ),
  );
  const all = (what) => Promise.all(workers.map((worker) => worker.ask(what)));
  return {
    read: () => all("read"),
    bytes: share * threads,
    peak: () => all("peak"),
    operations: rounds * 96 * threads,
    close: () => Promise.all(workers.map((worker) => worker.end())),
  };
}

async function spawn(workerData) {
  const code = `
    const { parentPort, workerData: w } = require("node:worker_threads");
    const { exports } = new WebAssembly.Instance(w.module, { env: { memory: w.memory, abort() {} } });
    parentPort.on("message", (what) =>
      parentPort.postMessage(what === "read" ? exports.read(w.at, w.share) : exports.peak(w.rounds, 0.5, 0.25)));
    parentPort.postMessage("ready");`;
  const worker = new Worker(code, { eval: true, workerData });
  worker.on("error", (error) => {
    throw error;
  });
  const next = () => new Promise((done) => worker.once("message", done));
  await next();
  return {
    ask(what) {
      const answer = next();
      worker.postMessage(what);
      return answer;
    },
    end: () => worker.terminate(),
  };
}
