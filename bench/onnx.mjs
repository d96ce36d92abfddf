// A hand-written ONNX model, so that onnxruntime can be timed on the same weights without any export tool:
// Only the few fields of onnx.proto3 that are needed; field numbers stand beside them.

const FLOAT = 1;
const INT64 = 7;

/**
 * hidden [N, D] → logits → TopK.
 * @param weight row-major [V, D]; stored transposed, as MatMul wants it.
 */
export function headModel(weight, V, D, k) {
  return model({
    nodes: [
      node("MatMul", ["hidden", "weight"], ["logits"]),
      node("TopK", ["logits", "k"], ["values", "indices"]),
    ],
    initializers: [
      tensor("weight", FLOAT, [D, V], transposed(weight, V, D)),
      tensor("k", INT64, [1], new Uint8Array(new BigInt64Array([BigInt(k)]).buffer)),
    ],
    inputs: [valueInfo("hidden", FLOAT, ["N", D])],
    outputs: [valueInfo("values", FLOAT, ["N", k]), valueInfo("indices", INT64, ["N", k])],
  });
}

/** hidden [N, D], ids [N, 1] → logProbs [N, 1]: logits of the ids minus their rows' log-sum-exp. */
export function logProbModel(weight, V, D) {
  return model({
    nodes: [
      node("MatMul", ["hidden", "weight"], ["logits"]),
      node("ReduceLogSumExp", ["logits"], ["lse"], [attribute("axes", [1]), attribute("keepdims", 1)]),
      node("GatherElements", ["logits", "ids"], ["chosen"], [attribute("axis", 1)]),
      node("Sub", ["chosen", "lse"], ["logProbs"]),
    ],
    initializers: [tensor("weight", FLOAT, [D, V], transposed(weight, V, D))],
    inputs: [valueInfo("hidden", FLOAT, ["N", D]), valueInfo("ids", INT64, ["N", 1])],
    outputs: [valueInfo("logProbs", FLOAT, ["N", 1])],
  });
}

function transposed(weight, V, D) {
  const out = new Float32Array(D * V);
  for (let v0 = 0; v0 < V; v0 += 64)
    for (let d = 0; d < D; d++)
      for (let v = v0, end = Math.min(V, v0 + 64); v < end; v++) out[d * V + v] = weight[v * D + d];
  return new Uint8Array(out.buffer);
}

/** ModelProto */
function model({ nodes, initializers, inputs, outputs }) {
  const graph = join([
    ...nodes.map((one) => bytes(1, one)), // node
    bytes(2, text("head")), // name
    ...initializers.map((one) => bytes(5, one)), // initializer
    ...inputs.map((one) => bytes(11, one)), // input
    ...outputs.map((one) => bytes(12, one)), // output
  ]);
  return join([
    integer(1, 8), // ir_version
    bytes(8, integer(2, 13)), // opset_import: version
    bytes(7, graph), // graph
  ]);
}

/** NodeProto */
const node = (type, inputs, outputs, attributes = []) =>
  join([
    ...inputs.map((name) => bytes(1, text(name))),
    ...outputs.map((name) => bytes(2, text(name))),
    bytes(4, text(type)), // op_type
    ...attributes.map((one) => bytes(5, one)),
  ]);

/** AttributeProto: one whole number (type INT = 2) or several (INTS = 7). */
const attribute = (name, value) =>
  Array.isArray(value)
    ? join([bytes(1, text(name)), ...value.map((one) => integer(8, one)), integer(20, 7)])
    : join([bytes(1, text(name)), integer(3, value), integer(20, 2)]);

/** TensorProto */
const tensor = (name, type, dims, data) =>
  join([...dims.map((dim) => integer(1, dim)), integer(2, type), bytes(8, text(name)), bytes(9, data)]); // raw_data

/** ValueInfoProto; a dimension that is a string is symbolic. */
const valueInfo = (name, type, dims) => {
  const shape = join(
    dims.map((dim) => bytes(1, typeof dim === "string" ? bytes(2, text(dim)) : integer(1, dim))), // dim
  );
  const tensorType = join([integer(1, type), bytes(2, shape)]); // elem_type, shape
  return join([bytes(1, text(name)), bytes(2, bytes(1, tensorType))]); // name, type
};

const text = (string) => new TextEncoder().encode(string);
const integer = (field, value) => join([varint(field << 3), varint(value)]);
const bytes = (field, data) => join([varint((field << 3) | 2), varint(data.length), data]);

function varint(value) {
  const out = [];
  for (; value >= 128; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  return Uint8Array.from([...out, value]);
}

function join(parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
