import { readHuggingFace } from "../../body/families/index.js";
import type { Checkpoint } from "../../model/formats/checkpoint.js";
import type { OpenModel } from "../../model/open.js";

type Json = Record<string, unknown>;

/**
 * A model whose head has a tensor of its own, so that it can be trained while the embedding stays: where the embedding
 * serves for both, the head gets a copy of it under the name that the family has for a head.
 */
export async function untied(opened: OpenModel, config: Json): Promise<{ opened: OpenModel; config: Json }> {
  const { embedding, head } = opened.spec;
  const own = { ...config, tie_word_embeddings: false };
  if (head.weight) return { opened, config: own };
  const checkpoint = withCopy(opened.checkpoint, embedding.name, head.names[0]);
  const { spec } = await readHuggingFace(opened.name, own, checkpoint);
  return { opened: { ...opened, checkpoint, spec }, config: own };
}

/** The same tensors, and one of them under a second name. */
function withCopy(checkpoint: Checkpoint, name: string, copy: string): Checkpoint {
  const own = (wanted: string) => (wanted === copy ? name : wanted);
  return {
    format: checkpoint.format,
    name: checkpoint.name,
    tensors: new Map([...checkpoint.tensors, [copy, { ...checkpoint.tensors.get(name)!, name: copy }]]),
    matrix: (wanted, rows, cols) => checkpoint.matrix(own(wanted), rows, cols),
    vector: (wanted, length) => checkpoint.vector(own(wanted), length),
    close: () => checkpoint.close(),
  };
}
