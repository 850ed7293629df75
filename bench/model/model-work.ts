// How much a whole model has to do at least: floating-point operations of a forward pass (a multiply-add is two) and the bytes
// of weights that a decode step reads. Norms, rotary embedding, softmax and the activation are not counted: they are no work
// for the kernels whose rate is the ceiling.
import type { LanguageModel } from "../../model/language-model.ts";

const embeddingName = "model.embed_tokens.weight";
const size = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

/**
 * A forward pass: 2 · weights of the layers' matrices for each token; scores and mixtures of attention, 2 · 2 · H·D for each
 * token and each one it looks at; 2 · V·C for each row of which logits are taken.
 * @param tokens    computed in this pass, one sequence
 * @param earlier   tokens of the sequence before them
 * @param headRows  how many tokens go through the head
 */
export function forwardFlops(config: LanguageModel, tokens: number, earlier: number, headRows: number): number {
  let matrices = 0;
  for (const [name, { shape, role }] of config.parameters())
    if (role === "linear" && name !== config.headName()) matrices += size(shape);
  const lookedAt = tokens * earlier + (tokens * (tokens + 1)) / 2;
  const { numHiddenLayers, numAttentionHeads, headDim, vocabSize, hiddenSize } = config;
  const attention = 4 * numHiddenLayers * numAttentionHeads * headDim * lookedAt;
  return 2 * matrices * tokens + attention + 2 * vocabSize * hiddenSize * headRows;
}

/** Forward and backward, whose products are two for each one of the forward pass; every token but the last is scored. */
export function trainingFlops(config: LanguageModel, tokens: number): number {
  return 3 * forwardFlops(config, tokens, 0, tokens - 1);
}

/** What a decode step reads of f32 weights, however many rows share it: all of them, an embedding that is not the head by row. */
export function decodeWeightBytes(config: LanguageModel): number {
  let elements = 0;
  for (const [name, { shape }] of config.parameters())
    if (name !== embeddingName || config.tieWordEmbeddings) elements += size(shape);
  return 4 * elements;
}
