// The Qwen2.5 transformer: from token ids to the hidden states after the last norm. Weights are an argument, looked up by
// Hugging Face's names. Callers apply the head, since they know which positions need logits (scoring.ts,
// generation.ts).
//
// Layer:  x ← x + o_proj(attention(rope(q), rope(k), v)),   q, k, v = projections of rmsNorm(x), with biases
//         x ← x + down_proj(silu(gate_proj(h)) · up_proj(h)),   h = rmsNorm(x)
import {
  attention,
  embedding,
  fromArray,
  linear,
  type Parameter,
  reshape,
  rmsNorm,
  ropeIntoCache,
  ropePair,
  rotaryTables,
  swiglu,
  type Tensor,
  type Weights,
} from "../engine/index.ts";
import type { Batch } from "./batch.ts";
import { isLinearWeight, parseConfig, type Qwen2Config, qwen2ParameterShapes } from "./config.ts";
import {
  type ForwardOptions,
  type LanguageModel,
  type LayerCaches,
  type ModelFamily,
  type ParameterRole,
  runLayers,
} from "./language-model.ts";
import { withPublishedKeys } from "./published-shapes.ts";

/** A Qwen2 model: its configuration, and the facts and methods of every model. */
export type Qwen2Model = Qwen2Config & LanguageModel;

export const qwen2: ModelFamily = {
  modelType: "qwen2",
  open: (configJson, where) => qwen2Model(parseConfig(configJson, where)),
  complete: withPublishedKeys,
};

export function qwen2Model(config: Qwen2Config): Qwen2Model {
  return {
    ...config,
    modelType: qwen2.modelType,
    architecture: "Qwen2ForCausalLM",
    parameters() {
      const shapes = qwen2ParameterShapes(this);
      return new Map([...shapes].map(([name, shape]) => [name, { shape, role: roleOf(name) }]));
    },
    headName() {
      return this.tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight";
    },
    forward(weights, batch, cache, options) {
      return forward(this, weights, batch, cache, options);
    },
  };
}

function roleOf(name: string): ParameterRole {
  if (isLinearWeight(name)) return "linear";
  if (name.endsWith(".bias")) return "bias";
  return name.endsWith("norm.weight") ? "norm" : "embedding";
}

function forward(
  config: Qwen2Config,
  weights: Weights,
  batch: Batch,
  cache: LayerCaches | null,
  options: ForwardOptions = {},
): Tensor {
  const angles = rotaryAngles(config, batch, weights.dtype);
  const embedded = embedding(batch.ids, weights.get("model.embed_tokens.weight"), batch.rows); // [T, C]
  const x = runLayers(
    config.numHiddenLayers,
    embedded,
    (layer, input) => decoderLayer(config, weights, layer, input, batch, angles, cache),
    options,
  );
  return rmsNorm(x, weights.get("model.norm.weight"), config.rmsNormEps, batch.rows);
}

/** The rotary angles of each token's position. */
interface RotaryAngles {
  readonly cos: Tensor; // [T, D/2]
  readonly sin: Tensor; // [T, D/2]
}

function rotaryAngles(
  { headDim, ropeTheta }: Qwen2Config,
  { ids, positions }: Batch,
  dtype: "f32" | "f64",
): RotaryAngles {
  const { backend } = ids.tensor;
  const { cos, sin } = rotaryTables(positions, headDim, ropeTheta);
  const shape = [positions.length, headDim / 2];
  return { cos: fromArray(backend, cos, shape, dtype, "cos"), sin: fromArray(backend, sin, shape, dtype, "sin") };
}

function decoderLayer(
  config: Qwen2Config,
  weights: Weights,
  layer: number,
  x: Tensor,
  batch: Batch,
  angles: RotaryAngles,
  cache: LayerCaches | null,
): Tensor {
  const { numAttentionHeads: H, numKeyValueHeads: K, headDim: D, rmsNormEps } = config;
  const { rows, spans, querySpans } = batch;
  const { operands } = weights;
  const T = x.rows;
  const weight = (name: string): Parameter => weights.get(`model.layers.${layer}.${name}.weight`);
  const bias = (name: string): Parameter => weights.get(`model.layers.${layer}.${name}.bias`);
  const projection = (name: string, from: Tensor, isLastReader = false): Tensor =>
    linear(from, weight(`self_attn.${name}`), bias(`self_attn.${name}`), rows, { isLastReader });

  const h = rmsNorm(x, weight("input_layernorm"), rmsNormEps, rows, operands); // [T, C]
  const q = reshape(projection("q_proj", h), [T, H, D]); // [T, H, D]
  const k = reshape(projection("k_proj", h), [T, K, D]); // [T, K, D]
  const v = reshape(projection("v_proj", h, true), [T, K, D]); // [T, K, D]
  const seen = cache === null ? rotated(q, k, v, angles) : intoCache(q, k, v, angles, cache, layer);
  const mixed = reshape(attention(seen.q, seen.keys, seen.values, spans, querySpans), [T, H * D]);
  const afterAttention = linear(mixed, weight("self_attn.o_proj"), null, rows, { residual: x }); // [T, C]

  const m = rmsNorm(afterAttention, weight("post_attention_layernorm"), rmsNormEps, rows, operands); // [T, C]
  const gate = linear(m, weight("mlp.gate_proj"), null, rows); // [T, F]
  const up = linear(m, weight("mlp.up_proj"), null, rows, { isLastReader: true }); // [T, F]
  const product = swiglu(gate, up, operands); // [T, F]
  return linear(product, weight("mlp.down_proj"), null, rows, { isLastReader: true, residual: afterAttention }); // [T, C]
}

/** Rotated queries, and what they see. */
interface Attended {
  readonly q: Tensor; // [T, H, D]
  readonly keys: Tensor; // [S, K, D]
  readonly values: Tensor; // [S, K, D]
}

function rotated(q: Tensor, k: Tensor, v: Tensor, { cos, sin }: RotaryAngles): Attended {
  const turned = ropePair(q, k, cos, sin);
  return { q: turned.q, keys: turned.k, values: v };
}

function intoCache(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { cos, sin }: RotaryAngles,
  { keys, values, slots }: LayerCaches,
  layer: number,
): Attended {
  ropeIntoCache(q, k, v, cos, sin, { slots, keys: keys[layer], values: values[layer] });
  return { q, keys: keys[layer], values: values[layer] };
}
