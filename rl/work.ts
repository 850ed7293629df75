// How many operations a token takes, by the model's shape. A multiply-add is two operations; norms, activations and sums
// are left out, as they are far fewer than those of the products.
import { sizeOf } from "../engine/index.ts";
import type { LanguageModel } from "../model/index.ts";

/** The layers' products for one token: two operations per weight. */
export function forwardFlops(config: LanguageModel): number {
  return [...config.parameters()].reduce(
    (sum, [name, { role, shape }]) => sum + (role === "linear" && name !== config.headName() ? 2 * sizeOf(shape) : 0),
    0,
  );
}

/** The logits of one position: 2 · V · C. */
export function headFlops({ vocabSize, hiddenSize }: LanguageModel): number {
  return 2 * vocabSize * hiddenSize;
}

/** Scores and weighted values of one token that attends to `context` others, over all layers. */
export function attentionFlops(
  { numHiddenLayers, numAttentionHeads, headDim }: LanguageModel,
  context: number,
): number {
  return 4 * numHiddenLayers * numAttentionHeads * headDim * context;
}
