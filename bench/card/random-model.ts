// A model with random weights that are made in a second: uniform numbers from a table, with the deviations that a random
// model has. Matrices fan_in^−½, embeddings 0.02, biases 0, norms 1.
import type { Backend, ParameterArena } from "../../engine/index.ts";
import { sizeOf } from "../../engine/tensor.ts";
import { makeWeights, parameterShapes, type Qwen2Model } from "../../model/index.ts";
import { Numbers } from "./numbers.ts";

export interface RandomModel {
  backend: Backend;
  config: Qwen2Model;
  weights: ParameterArena;
}

export async function randomModel(
  backend: Backend,
  config: Qwen2Model,
  options: { trainable?: boolean; precision?: "f32" | "mixed" },
): Promise<RandomModel> {
  const weights = makeWeights(backend, config, options);
  let seed = 1;
  for (const [name, { shape, role }] of config.parameters()) {
    const count = sizeOf(shape);
    // A uniform number in [−a, a) has the deviation a / √3.
    const deviation = role === "embedding" ? 0.02 : shape[shape.length - 1] ** -0.5;
    if (role === "norm") weights.load(name, new Float32Array(count).fill(1));
    else if (role === "bias") weights.load(name, new Float32Array(count));
    else weights.load(name, new Numbers(seed, Math.sqrt(3) * deviation).array(count));
    seed++;
    // A driver keeps a copy of written data until the device has it.
    if (count > 2 ** 24) await backend.idle();
  }
  weights.refreshCopies();
  await backend.idle();
  return { backend, config, weights };
}

/** Number of parameters. */
export function countOf(config: Qwen2Model, isCounted: (name: string) => boolean = () => true): number {
  return [...parameterShapes(config)].reduce((sum, [name, shape]) => sum + (isCounted(name) ? sizeOf(shape) : 0), 0);
}

/** Pseudo-random token ids, in [0, vocabulary). */
export function idsOf(tokens: number, vocabulary: number, seed = 0): number[] {
  return Array.from({ length: tokens }, (_, i) => ((i + 131 * seed) * 7919 + 13) % vocabulary);
}
