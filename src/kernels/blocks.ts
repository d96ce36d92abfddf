import { InputError } from "../errors.js";
import type { CacheLayer, Op, Program } from "./op.js";
import { checkProgram } from "./program.js";
import { type TrainingPlan, trainingPlan } from "./training.js";

/** A stretch of a program that can run again by itself. */
export interface Block {
  readonly plan: TrainingPlan;
  /** What it begins with: a buffer as an earlier block left it. Absent: the call's own ids or vectors. */
  readonly input?: { readonly buffer: string; readonly from: number };
  /** Buffers that no later block touches. */
  readonly last: readonly string[];
}

const cuts = new WeakMap<Program, readonly Block[]>();

/** A program as the one block that it is without checkpoints. @throws InputError as `checkProgram` */
export function wholeProgram(program: Program): readonly Block[] {
  return [{ plan: trainingPlan(program), last: Object.keys(program.buffers) }];
}

/**
 * Cuts a program at its checkpoints. Cut once, then remembered.
 * @throws InputError for a program without checkpoints, or one where more than one buffer goes on into a block
 */
export function blocksOf(program: Program): readonly Block[] {
  let blocks = cuts.get(program);
  if (!blocks) {
    blocks = cut(program);
    cuts.set(program, blocks);
  }
  return blocks;
}

function cut(program: Program): readonly Block[] {
  checkProgram(program);
  const { checkpoints, ops, buffers } = program;
  if (!checkpoints)
    throw new InputError("recompute: this program has no checkpoints, which say where its blocks begin");
  const firsts = [0, ...checkpoints];
  /** Which block was the last to touch a buffer. */
  const touched = new Map<string, number>();
  const parts = firsts.map((first, index) => {
    const part = stretch(program, first, firsts[index + 1] ?? ops.length);
    const facts = factsOf(part, first);
    const fail = (why: string): never => {
      throw new InputError(`recompute: the block from op ${first} on ${why}; move the checkpoint`);
    };
    const [buffer] = facts.inputs;
    if (index > 0 && buffer === undefined) fail("reads nothing of what is before it");
    const from = index > 0 ? touched.get(buffer) : undefined;
    for (const [name, whole] of facts.touched) {
      if (!whole && touched.has(name))
        fail(`writes only a part of "${name}", which an earlier one wrote too`);
      touched.set(name, index);
    }
    return { part, names: [...facts.touched.keys()], ...(from !== undefined && { input: { buffer, from } }) };
  });
  const end = parts.length - 1;
  return parts.map(({ part, names, input }, index) => {
    // What no op touches is the last block's.
    const last = Object.keys(buffers).filter((name) => (touched.get(name) ?? end) === index);
    const own = new Set([...names, ...last]);
    const plan = trainingPlan({
      ...part,
      buffers: Object.fromEntries(Object.entries(buffers).filter(([name]) => own.has(name))),
    });
    return { plan, last, ...(input && { input }) };
  });
}

/** Ops [first, end) as a program, whose cache has the layers of its own attention ops. */
function stretch({ ops, cache, ...rest }: Program, first: number, end: number): Program {
  const layers: CacheLayer[] = [];
  const own = ops.slice(first, end).map((op): Op => {
    if (op.op !== "attention") return op;
    layers.push(cache[op.layer]);
    return { ...op, layer: layers.length - 1 };
  });
  return { buffers: rest.buffers, maxPositions: rest.maxPositions, ops: own, cache: layers };
}

function factsOf(part: Program, first: number) {
  try {
    return checkProgram(part);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError(
      `recompute: the block from op ${first} on does not run by itself: ${error.message}; move the checkpoint`,
      { cause: error },
    );
  }
}
