// The layer that is compared: its numbers and its check. Outputs are compared at all tokens; the upstream gradient is
// zero past the first 16 tokens, so that (attention being causal) the exact gradients are those of these 16 tokens
// alone, which plain loops compute in a second. Kernels take the same time for zeros.
import { CpuBackend, fromArray, GradientMap, record, scopeAsync, type Tensor } from "../../engine/index.ts";
import { makeWeights, packSequences, parameterShapes } from "../../model/index.ts";
import { expectClose, layerConfig, numbers, type Results, type Task } from "./tasks.ts";

type LayerTask = Task & { kind: "layer" };

const seededTokens = 16;

export function layerIds({ T }: LayerTask): Uint32Array {
  return Uint32Array.from({ length: T }, (_, t) => (t * 37) % layerConfig.vocabSize);
}

/** By Hugging Face's names; matrices [out, in]. Biases are not 0 and norms not 1, so that a wrong one is noticed. */
export function layerWeights(): Map<string, Float32Array> {
  const weights = new Map<string, Float32Array>();
  let seed = 10;
  for (const [name, shape] of parameterShapes(layerConfig)) {
    const count = shape.reduce((product, n) => product * n, 1);
    const values = numbers(count, seed++, shape.length === 2 && !name.includes("embed") ? shape[1] ** -0.5 : 0.5);
    weights.set(name, name.endsWith("norm.weight") ? values.map((value) => 1 + value) : values);
  }
  return weights;
}

/** Gradient of the output, [T, C]. */
export function layerUpstream({ T }: LayerTask): Float32Array {
  const { hiddenSize: C } = layerConfig;
  return numbers(T * C, 9).fill(0, seededTokens * C);
}

/** Gradients that are compared; all are computed. */
const compared = [
  "self_attn.q_proj.weight",
  "self_attn.k_proj.bias",
  "self_attn.o_proj.weight",
  "mlp.gate_proj.weight",
  "mlp.down_proj.weight",
  "input_layernorm.weight",
].map((name) => `model.layers.0.${name}`);

/**
 * @param results  "y" [T, C], after the final norm, and the gradients of weights by name
 * @throws Error that names result and element
 */
export async function checkLayer(task: LayerTask, results: Results): Promise<void> {
  const whole = await exact(layerIds(task), null);
  expectClose("y", results["y"], whole["y"], 1e-4);
  const dy = layerUpstream(task).subarray(0, seededTokens * layerConfig.hiddenSize);
  const first = await exact(layerIds(task).subarray(0, seededTokens), dy);
  for (const name of compared) expectClose(name, results[name], first[name], 1e-4);
}

/** Output and, if there is an upstream gradient, the gradients, by plain loops in float64. */
async function exact(ids: Uint32Array, dy: Float32Array | null): Promise<Record<string, ArrayLike<number>>> {
  const backend = new CpuBackend();
  return scopeAsync(async () => {
    const weights = makeWeights(backend, layerConfig, { dtype: "f64" });
    for (const [name, values] of layerWeights()) weights.load(name, values);
    weights.refreshCopies();
    const leaves = new Map<string, Tensor>(compared.map((name) => [name, weights.value(name)]));
    if (dy !== null) for (const leaf of leaves.values()) leaf.requiresGradient = true;
    const batch = packSequences(backend, [ids]);
    if (dy === null) return { y: await layerConfig.forward(weights, batch, null).read() };
    const recording = record(() => layerConfig.forward(weights, batch, null));
    const gradients = new GradientMap(leaves.values());
    const seed = fromArray(backend, dy, recording.result.shape, "f64");
    recording.backward(new Map([[recording.result, seed]]), gradients);
    const found: Record<string, ArrayLike<number>> = {};
    for (const [name, leaf] of leaves) found[name] = (await gradients.get(leaf)?.read()) ?? [];
    return found;
  });
}
