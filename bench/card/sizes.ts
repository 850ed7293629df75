// The shapes that bench/card.ts measures. full: Qwen2.5-0.5B and the shape of GPT-2 Medium, for a GPU. small: the same
// parts within a minute on a software driver.
import { type Qwen2Model, qwen2Model } from "../../model/index.ts";

export interface Sizes {
  /** The shortest time of one sample, ms. */
  sampleMs: number;
  copyMiB: readonly number[];
  products: {
    layers: readonly { name: string; inputs: number; outputs: number }[];
    /** Forward products alone. */
    decodeRows: readonly number[];
    /** All three products. */
    trainingRows: readonly number[];
  };
  heads: { queries: number; keys: number; size: number };
  attention: { tokens: readonly number[]; decodeRows: readonly number[]; decodeKeys: number };
  head: { hidden: number; vocabulary: number; rows: readonly number[]; trainingRows: number };
  model: Qwen2Model;
  modelName: string;
  decode: { promptTokens: number; newTokens: number; rows: readonly number[] };
  training: readonly { sequences: number; tokens: number }[];
  landscape: { sequences: number; tokens: number };
  otherModel: Qwen2Model;
  otherName: string;
  otherTokens: number;
}

const common = { maxPositionEmbeddings: 4096, rmsNormEps: 1e-6, ropeTheta: 1e6, eosTokenIds: [] } as const;
const tied = { ...common, tieWordEmbeddings: true } as const;

const layersOf = (hidden: number, keys: number, inner: number): Sizes["products"]["layers"] => [
  { name: "gate, up", inputs: hidden, outputs: inner },
  { name: "down", inputs: inner, outputs: hidden },
  { name: "q, o", inputs: hidden, outputs: hidden },
  { name: "k, v", inputs: hidden, outputs: keys },
];

const full: Sizes = {
  sampleMs: 10,
  copyMiB: [64, 256, 512],
  products: { layers: layersOf(896, 128, 4864), decodeRows: [1, 16], trainingRows: [256, 4096, 1024] },
  heads: { queries: 14, keys: 2, size: 64 },
  attention: { tokens: [256, 1024, 2048], decodeRows: [1, 16, 64], decodeKeys: 1024 },
  head: { hidden: 896, vocabulary: 151_936, rows: [1, 16], trainingRows: 256 },
  model: qwen2Model({
    ...tied,
    ...{ vocabSize: 151_936, hiddenSize: 896, intermediateSize: 4864, numHiddenLayers: 24 },
    ...{ numAttentionHeads: 14, numKeyValueHeads: 2, headDim: 64 },
  }),
  modelName: "0.5B",
  decode: { promptTokens: 256, newTokens: 48, rows: [1, 16, 64] },
  training: [
    { sequences: 1, tokens: 256 },
    { sequences: 4, tokens: 1024 },
  ],
  landscape: { sequences: 16, tokens: 256 },
  // GPT-2 has two matrices of 1024 × 4096 per MLP, this model three: 2736 gives as many weights.
  otherModel: qwen2Model({
    ...tied,
    ...{ vocabSize: 50_257, hiddenSize: 1024, intermediateSize: 2736, numHiddenLayers: 24 },
    ...{ numAttentionHeads: 16, numKeyValueHeads: 16, headDim: 64 },
  }),
  otherName: "GPT-2 Medium's shape",
  otherTokens: 512,
};

const small: Sizes = {
  sampleMs: 3,
  copyMiB: [4, 16],
  products: { layers: layersOf(64, 32, 192).slice(0, 2), decodeRows: [1, 16], trainingRows: [64] },
  heads: { queries: 4, keys: 2, size: 16 },
  attention: { tokens: [64, 128], decodeRows: [1, 16], decodeKeys: 64 },
  head: { hidden: 64, vocabulary: 1024, rows: [1], trainingRows: 32 },
  model: qwen2Model({
    ...tied,
    ...{ vocabSize: 1024, hiddenSize: 64, intermediateSize: 192, numHiddenLayers: 2 },
    ...{ numAttentionHeads: 4, numKeyValueHeads: 2, headDim: 16 },
  }),
  modelName: "tiny",
  decode: { promptTokens: 16, newTokens: 8, rows: [1, 4] },
  training: [
    { sequences: 1, tokens: 32 },
    { sequences: 2, tokens: 64 },
  ],
  landscape: { sequences: 2, tokens: 32 },
  otherModel: qwen2Model({
    ...tied,
    ...{ vocabSize: 257, hiddenSize: 64, intermediateSize: 176, numHiddenLayers: 2 },
    ...{ numAttentionHeads: 4, numKeyValueHeads: 4, headDim: 16 },
  }),
  otherName: "GPT-2's form, tiny",
  otherTokens: 32,
};

export const sizesOf: Readonly<Record<"small" | "full", Sizes>> = { small, full };
