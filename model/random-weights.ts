// The weights of a random model; the same seed gives the same weights on every machine. Matrices are normal with
// standard deviation fan_in^−½, embeddings normal with a chosen deviation (0.02 by default), biases 0, norms 1.
import { directionNormals, type ParameterArena, philoxKey, sizeOf, wordsOf } from "../engine/index.ts";
import type { LanguageModel, ParameterDescription } from "./language-model.ts";

/** Normals drawn at a time, so that no whole tensor is held in float64. */
const pieceElements = 2 ** 20;
export const usualEmbeddingDeviation = 0.02;

/** Fills an arena. Each tensor has its own random stream: label `initialise|seed`, counters as for directions. */
export function initialise(
  arena: ParameterArena,
  config: LanguageModel,
  seed: number,
  embeddingDeviation = usualEmbeddingDeviation,
): void {
  for (const [name, description] of config.parameters())
    arena.load(name, randomTensor(name, description, seed, embeddingDeviation));
  arena.refreshCopies();
}

/** One tensor of the random model, [out, in] for a matrix. */
export function randomTensor(
  name: string,
  { shape, role }: ParameterDescription,
  seed: number,
  embeddingDeviation = usualEmbeddingDeviation,
): Float32Array {
  const values = new Float32Array(sizeOf(shape));
  if (role === "norm") return values.fill(1);
  if (role === "bias") return values;
  const deviation = role === "embedding" ? embeddingDeviation : shape[1] ** -0.5;
  const key = philoxKey(`initialise|${seed}`);
  const nameWords = wordsOf(name);
  for (let first = 0; first < values.length; first += pieceElements) {
    const count = Math.min(pieceElements, values.length - first);
    const normals = directionNormals(key, nameWords, count, first);
    for (let i = 0; i < count; i++) values[first + i] = normals[i] * deviation;
  }
  return values;
}
