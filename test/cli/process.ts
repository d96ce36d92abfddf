import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** The command line as people run it is the built one. */
export const built = existsSync(main);

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | Buffer;
  readonly env?: NodeJS.ProcessEnv;
  /** When to send SIGINT, in milliseconds from the start. */
  readonly interruptAfterMs?: number;
  /** Called with each part of stdout; may end the process or its pipe. */
  readonly onOutput?: (text: string, child: ReturnType<typeof spawn>) => void;
}

/** Runs `lmhead` with these arguments to its end. */
export function lmhead(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, ...options.env } });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    options.onOutput?.(stdout, child);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.on("error", () => {}); // a command that refuses its options does not read its input
  child.stdin.end(options.input ?? "");
  const { interruptAfterMs } = options;
  const timer = interruptAfterMs && setTimeout(() => child.kill("SIGINT"), interruptAfterMs);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

/** Runs `lmhead … --json`, which must succeed with nothing on stderr. */
export async function lmheadJson<T>(args: readonly string[], options: RunOptions = {}): Promise<T> {
  const { code, stdout, stderr } = await lmhead([...args, "--json"], options);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as T;
}

/** Bad input: exit code 2, nothing on stdout, one line on stderr that matches and is no stack. */
export async function expectRefused(
  args: readonly string[],
  message: RegExp,
  options: RunOptions = {},
): Promise<void> {
  const { code, stdout, stderr } = await lmhead(args, options);
  expect({ code, stdout }, stderr).toEqual({ code: 2, stdout: "" });
  expect(stderr).toMatch(/^lmhead: [^\n]+\n$/);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\bat .*:\d+:\d+/);
}

export interface NextJson {
  readonly promptIds: number[];
  readonly logSumExp: number;
  readonly entropy: number;
  readonly top: readonly {
    readonly id: number;
    readonly token: string;
    readonly logit: number;
    readonly logProb: number | null;
    readonly prob: number;
    readonly processedLogProb?: number | null;
    readonly processedProb?: number;
  }[];
  readonly of: readonly {
    readonly text: string;
    readonly ids: number[];
    readonly logProb: number;
    readonly rank: number | null;
  }[];
}

export interface GenerateJson {
  readonly promptIds: number[];
  readonly outputs: readonly {
    readonly ids: number[];
    readonly text: string;
    readonly logProbs: number[];
    readonly finishReason: string;
    readonly alternatives?: unknown[][];
  }[];
  readonly timing: {
    readonly loadMs: number;
    readonly prefillMs: number;
    readonly decodeMs: number;
    readonly decodeTokens: number;
  };
}

export interface ScoreJson {
  readonly tokens: readonly {
    readonly id: number;
    readonly text: string;
    readonly logProb: number | null;
    readonly rank: number | null;
  }[];
  readonly sum: number;
  readonly count: number;
  readonly perplexity: number;
}
