import { createReadStream } from "node:fs";
import { addAbortSignal, type Readable } from "node:stream";
import { InputError } from "../errors.js";
import { systemError } from "./exit.js";

/**
 * Bytes of text that one call reads at most: its tokens, up to one a byte, their scores and the answer's text must fit
 * V8's heap, and tokenizing, which nothing interrupts, must end within seconds.
 */
const mostBytes = 4 * 2 ** 20;

/**
 * Text from a file, or from standard input where `file` is undefined.
 * @throws InputError when it is not UTF-8, empty, or above 4 MiB.
 */
export async function readText(file: string | undefined, signal: AbortSignal): Promise<string> {
  const name = file ?? "standard input";
  const stream: Readable = file === undefined ? process.stdin : createReadStream(file);
  addAbortSignal(signal, stream);
  const parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const part of stream as AsyncIterable<Buffer>) {
      size += part.length;
      if (size > mostBytes)
        throw new InputError(`${name}: expected at most 4 MiB of text; split it, and score each part`);
      parts.push(part);
    }
  } catch (error) {
    const message = systemError(error, name);
    throw message === undefined ? error : new InputError(message);
  }
  const text = decodeUtf8(Buffer.concat(parts), name);
  if (text === "") throw new InputError(`${name} is empty: expected a text`);
  return text;
}

function decodeUtf8(data: Buffer, name: string): string {
  try {
    // A byte order mark stays: it is part of what is scored.
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    throw new InputError(`${name}: expected UTF-8 text, got other bytes; convert it first (iconv -t utf-8)`);
  }
}
