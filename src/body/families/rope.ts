import { InputError } from "../../errors.js";
import type { RopeSpec } from "../spec.js";
import type { Fields } from "./fields.js";

/** θ^(-2i/dims) for i in [0, dims/2): one angle a position for each pair of columns. `dims` is even. */
export function plainFrequencies(dims: number, theta: number): Float64Array {
  return Float64Array.from({ length: dims / 2 }, (_, i) => theta ** ((-2 * i) / dims));
}

/**
 * Rotary positions as a Hugging Face config describes them: `rope_theta` and `rope_scaling`, or both in
 * `rope_parameters` (transformers 5). Scaling types: default, linear, llama3
 * (`transformers/modeling_rope_utils.py`).
 * @param share the part of each head that turns, the first ⌊headDim·share⌋ columns
 * @param thetaName the field with θ, for families that name it otherwise
 * @throws InputError for another scaling type, naming it
 */
export function hfRope(config: Fields, headDim: number, share = 1, thetaName = "rope_theta"): RopeSpec {
  const dims = ropeColumns(config.what, Math.floor(headDim * share), headDim);
  const parameters = config.nested("rope_parameters");
  const theta = parameters?.has("rope_theta")
    ? parameters.positive("rope_theta")
    : config.positive(thetaName, 10000);
  const scaling = parameters ?? config.nested("rope_scaling");
  const frequencies = plainFrequencies(dims, theta);
  if (scaling) scale(frequencies, scaling, config);
  return { layout: "half", frequencies, attentionFactor: 1 };
}

/** @throws InputError unless `dims` is even and in [2, headDim] */
export function ropeColumns(what: string, dims: number, headDim: number): number {
  if (dims % 2 !== 0 || dims < 2 || dims > headDim)
    throw new InputError(
      `${what}: rotary positions on ${dims} columns of a head: expected an even number from 2 to ${headDim}`,
    );
  return dims;
}

function scale(frequencies: Float64Array, scaling: Fields, config: Fields): void {
  const type = scaling.text(scaling.has("rope_type") ? "rope_type" : "type", "default");
  if (type === "default") return;
  if (type === "linear") {
    const factor = scaling.positive("factor");
    for (let i = 0; i < frequencies.length; i++) frequencies[i] /= factor;
  } else if (type === "llama3") scaleLlama3(frequencies, scaling, config);
  else
    throw new InputError(
      `${scaling.what}: type "${type}" is not supported; supported are default, linear, llama3`,
    );
}

/**
 * Llama 3's rule: short wavelengths stay, long ones are divided by the factor, and between the two a straight line
 * leads from one to the other.
 */
function scaleLlama3(frequencies: Float64Array, scaling: Fields, config: Fields): void {
  const factor = scaling.positive("factor");
  const low = scaling.positive("low_freq_factor");
  const high = scaling.positive("high_freq_factor");
  const context = scaling.has("original_max_position_embeddings")
    ? scaling.whole("original_max_position_embeddings")
    : config.whole("max_position_embeddings");
  if (high <= low)
    throw new InputError(`${scaling.what}: high_freq_factor ${high} must be above low_freq_factor ${low}`);
  for (let i = 0; i < frequencies.length; i++) {
    const wavelength = (2 * Math.PI) / frequencies[i];
    const smooth = Math.min(1, Math.max(0, (context / wavelength - low) / (high - low)));
    frequencies[i] = ((1 - smooth) / factor + smooth) * frequencies[i];
  }
}
