// The Qwen2.5 transformer: from token ids to the hidden states after the last norm. Weights are an argument, looked up by
// Hugging Face's names; the language-model head is applied by whoever knows which positions matter (scoring.ts, generation.ts).
//
// Layer:  x ← x + o_proj(attention(rope(q), rope(k), v)),   q, k, v = projections of rmsNorm(x), with biases
//         x ← x + down_proj(silu(gate_proj(h)) · up_proj(h)),   h = rmsNorm(x)
import {
  add,
  appendToCache,
  attention,
  embedding,
  isRecording,
  linear,
  type Parameter,
  recompute,
  reshape,
  rmsNorm,
  rope,
  scope,
  swiglu,
  type Tensor,
  type Weights,
} from "../engine/index.ts";
import type { Batch } from "./batch.ts";
import type { Qwen2Config } from "./config.ts";

/** Keys and values of earlier tokens, and where this batch's go. */
export interface LayerCaches {
  /** Of each layer the cache's storage [S, K, D]. */
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  /** Where each token of the batch is kept. */
  readonly slots: Tensor; // [T] u32
}

export interface ForwardOptions {
  /** Keep only each layer's input for the backward pass and run the layer again there: a third more work, a fraction of the memory. */
  recomputeLayers?: boolean;
}

/** The weight that turns hidden states into logits: the embedding itself where the two are tied. */
export function headWeight(config: Qwen2Config, weights: Weights): Parameter {
  return weights.get(config.tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight");
}

/**
 * Hidden states after the final norm.
 * @param cache  null: every token attends within the batch itself, along its span
 * @returns      [T, C]
 */
export function forward(
  config: Qwen2Config,
  weights: Weights,
  batch: Batch,
  cache: LayerCaches | null = null,
  options: ForwardOptions = {},
): Tensor {
  let x = embedding(batch.ids, weights.get("model.embed_tokens.weight"), batch.rows); // [T, C]
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const body = (input: Tensor): Tensor => decoderLayer(config, weights, layer, input, batch, cache);
    if (isRecording()) {
      x = options.recomputeLayers ? recompute(`layer ${layer}`, x, body) : body(x);
      continue;
    }
    // Nobody will go back: a layer's tensors go with it, and what it was given goes too.
    const input = x;
    x = scope(() => body(input));
    input.free();
  }
  return rmsNorm(x, weights.get("model.norm.weight"), config.rmsNormEps, batch.rows);
}

function decoderLayer(
  config: Qwen2Config,
  weights: Weights,
  layer: number,
  x: Tensor,
  batch: Batch,
  cache: LayerCaches | null,
): Tensor {
  const { numAttentionHeads: H, numKeyValueHeads: K, headDim: D, rmsNormEps } = config;
  const { rows, cos, sin, spans, querySpans } = batch;
  const T = x.rows;
  const weight = (name: string): Parameter => weights.get(`model.layers.${layer}.${name}.weight`);
  const bias = (name: string): Parameter => weights.get(`model.layers.${layer}.${name}.bias`);
  const projection = (name: string, from: Tensor, isLastReader = false): Tensor =>
    linear(from, weight(`self_attn.${name}`), bias(`self_attn.${name}`), rows, { isLastReader });

  const h = rmsNorm(x, weight("input_layernorm"), rmsNormEps, rows); // [T, C]
  const q = rope(reshape(projection("q_proj", h), [T, H, D]), cos, sin); // [T, H, D]
  const k = rope(reshape(projection("k_proj", h), [T, K, D]), cos, sin); // [T, K, D]
  const v = reshape(projection("v_proj", h, true), [T, K, D]); // [T, K, D]
  if (cache !== null) appendToCache(k, v, cache.slots, cache.keys[layer], cache.values[layer]);
  const keys = cache === null ? k : cache.keys[layer];
  const values = cache === null ? v : cache.values[layer];
  const mixed = reshape(attention(q, keys, values, spans, querySpans), [T, H * D]);
  const afterAttention = add(x, linear(mixed, weight("self_attn.o_proj"), null, rows)); // [T, C]

  const m = rmsNorm(afterAttention, weight("post_attention_layernorm"), rmsNormEps, rows); // [T, C]
  const gate = linear(m, weight("mlp.gate_proj"), null, rows); // [T, F]
  const up = linear(m, weight("mlp.up_proj"), null, rows, { isLastReader: true }); // [T, F]
  const product = swiglu(gate, up); // [T, F]
  const down = linear(product, weight("mlp.down_proj"), null, rows, { isLastReader: true }); // [T, F] → [T, C]
  return add(afterAttention, down);
}
