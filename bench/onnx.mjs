// A hand-written ONNX model, so that onnxruntime can be timed on the same weights without any export tool:
// hidden [N, D] → MatMul(weight [D, V]) → TopK(k) → values [N, k], indices [N, k]; or the logits [N, V] alone.
// Only the few fields of onnx.proto3 that are needed; field numbers stand beside them.

const FLOAT = 1;
const INT64 = 7;

/**
 * @param weight row-major [V, D]; stored transposed, as MatMul wants it.
 * @param k 0: the model's output is the logits.
 */
export function headModel(weight, V, D, k) {
  const transposed = new Float32Array(D * V);
  for (let v0 = 0; v0 < V; v0 += 64)
    for (let d = 0; d < D; d++)
      for (let v = v0, end = Math.min(V, v0 + 64); v < end; v++) transposed[d * V + v] = weight[v * D + d];
  const nodes = [node("MatMul", ["hidden", "weight"], ["logits"])];
  const initializers = [tensor("weight", FLOAT, [D, V], new Uint8Array(transposed.buffer))];
  if (k > 0) {
    nodes.push(node("TopK", ["logits", "k"], ["values", "indices"]));
    initializers.push(tensor("k", INT64, [1], new Uint8Array(new BigInt64Array([BigInt(k)]).buffer)));
  }
  const outputs =
    k > 0
      ? [valueInfo("values", FLOAT, ["N", k]), valueInfo("indices", INT64, ["N", k])]
      : [valueInfo("logits", FLOAT, ["N", V])];
  const graph = join([
    ...nodes.map((one) => bytes(1, one)), // node
    bytes(2, text("head")), // name
    ...initializers.map((one) => bytes(5, one)), // initializer
    bytes(11, valueInfo("hidden", FLOAT, ["N", D])), // input
    ...outputs.map((one) => bytes(12, one)), // output
  ]);
  return join([
    integer(1, 8), // ir_version
    bytes(8, integer(2, 13)), // opset_import: version
    bytes(7, graph), // graph
  ]);
}

/** NodeProto */
const node = (type, inputs, outputs) =>
  join([
    ...inputs.map((name) => bytes(1, text(name))),
    ...outputs.map((name) => bytes(2, text(name))),
    bytes(4, text(type)), // op_type
  ]);

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
