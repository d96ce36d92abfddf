// The examples that need a model take its path; without one they use the small model of ../shared, or skip.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

export function modelPath() {
  const path =
    process.argv[2] ?? fileURLToPath(new URL("../../shared/data/models/stories260K", import.meta.url));
  if (existsSync(path)) return path;
  console.log(`skip: no model at ${path}; give the path of a Hugging Face folder or a .gguf file`);
  process.exit(0);
}
