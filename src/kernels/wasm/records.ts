import { RECORD_WORDS } from "./abi.js";

/** A list of op records in the making; `write` puts it where the kernels read it. */
export class Records {
  private readonly words: number[] = [];
  count = 0;

  /**
   * Appends a record. Fields are 32-bit words from word 2 on; wrap float32 fields in `f`.
   * @param barrier whether threads wait for each other after it
   */
  push(code: number, barrier: boolean, fields: (number | Float)[]): void {
    const at = this.count++ * RECORD_WORDS;
    for (let i = 0; i < RECORD_WORDS; i++) this.words[at + i] = 0;
    this.words[at] = code;
    this.words[at + 1] = barrier ? 1 : 0;
    fields.forEach((field, i) => {
      this.words[at + 2 + i] = typeof field === "number" ? field : field.bits;
    });
  }

  /** Marks the last record as followed by a barrier. */
  sync(): void {
    if (this.count > 0) this.words[(this.count - 1) * RECORD_WORDS + 1] = 1;
  }

  get bytes(): number {
    return this.words.length * 4;
  }

  write(memory: WebAssembly.Memory, at: number): void {
    new Uint32Array(memory.buffer, at, this.words.length).set(this.words);
  }
}

interface Float {
  readonly bits: number;
}
const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** A float32 field of a record. */
export function f(x: number): Float {
  float[0] = x;
  return { bits: bits[0] };
}
