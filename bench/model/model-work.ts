// The least work of a whole model: floating-point operations of a forward pass (a multiply-add is two) and the bytes of
// weights that a decode step reads. Norms, rotary embedding, softmax and the activation are not counted: the kernels
// whose rate is the ceiling do not compute them.
import type { LanguageModel } from "../../model/language-model.ts";

const embeddingName = "model.embed_tokens.weight";
const size = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

/**
 * A forward pass: 2 · weights of the layers' matrices for each token; attention scores and weighted sums of values, 2 ·
 * 2 · H·D for each pair of a token and a token that it attends to; 2 · V·C for each row with logits.
 * @param tokens    computed in this pass, one sequence
 * @param earlier   tokens of the sequence before them
 * @param headRows  number of tokens that the head computes logits for
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

/**
 * Forward and backward pass: the backward pass has two products for each one of the forward pass. Every token but the
 * last is scored.
 */
export function trainingFlops(config: LanguageModel, tokens: number): number {
  return 3 * forwardFlops(config, tokens, 0, tokens - 1);
}

/**
 * Bytes of f32 weights that a decode step reads, for any number of rows: all weights except an embedding that is not
 * also the head, since only a few of its rows are read.
 */
export function decodeWeightBytes(config: LanguageModel): number {
  let elements = 0;
  for (const [name, { shape }] of config.parameters())
    if (name !== embeddingName || config.tieWordEmbeddings) elements += size(shape);
  return 4 * elements;
}
