// A random model of any Qwen2 configuration, the same from the same seed on every machine: matrices normal with standard
// deviation fan_in^−½, embeddings normal with a deviation of their own (0.02 unless said), biases 0, norms 1.
import { directionNormals, keyOf, type ParameterArena, sizeOf, wordsOf } from "../engine/index.ts";
import { parameterShapes, type Qwen2Config } from "./config.ts";

/** Fills an arena. Each tensor has its own stream: label `initialise|seed`, counters as of directions. */
export function initialise(arena: ParameterArena, config: Qwen2Config, seed: number, embeddingDeviation = 0.02): void {
  const key = keyOf(`initialise|${seed}`);
  for (const [name, shape] of parameterShapes(config)) {
    const size = sizeOf(shape);
    const deviation = standardDeviation(name, shape, embeddingDeviation);
    if (deviation === null) arena.load(name, new Float32Array(size).fill(name.endsWith("norm.weight") ? 1 : 0));
    else
      arena.load(
        name,
        Float32Array.from(directionNormals(key, wordsOf(name), size), (z) => z * deviation),
      );
  }
  arena.refreshCopies();
}

function standardDeviation(name: string, shape: readonly number[], embeddingDeviation: number): number | null {
  if (shape.length === 1) return null;
  return name.endsWith("embed_tokens.weight") ? embeddingDeviation : shape[1] ** -0.5;
}
