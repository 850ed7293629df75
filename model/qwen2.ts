// The Qwen2.5 transformer: from token ids to the hidden states after the last norm. Weights are an argument, looked up by
// Hugging Face's names. Callers apply the head, since they know which positions need logits (scoring.ts,
// generation.ts).
//
// Layer:  x ← x + o_proj(attention(rope(q), rope(k), v)),   q, k, v = projections of rmsNorm(x), with biases
//         x ← x + down_proj(silu(gate_proj(h)) · up_proj(h)),   h = rmsNorm(x)
import {
  type AttentionInputs,
  afterAttention,
  attention,
  beforeAttention,
  embedding,
  fromHost,
  gatedLinear,
  gatherRows,
  linear,
  linearTriple,
  type Parameter,
  repeatSlots,
  reshape,
  rmsNorm,
  ropeIntoCache,
  ropePair,
  rotaryTables,
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
    copiesSlots: true,
    parameters() {
      const shapes = qwen2ParameterShapes(this);
      return new Map([...shapes].map(([name, shape]) => [name, { shape, role: roleOf(name), group: groupOf(name) }]));
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

/** q, k and v are one product, gate and up another. */
function groupOf(name: string): string | undefined {
  const group = name.replace(/[qkv]_proj/, "qkv_proj").replace(/(gate|up)_proj/, "gate_up_proj");
  return group === name ? undefined : group;
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
  return rmsNorm(x, weights.get("model.norm.weight"), config.rmsNormEps, (batch.outputs ?? batch).rows);
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
  const T = positions.length;
  const half = headDim / 2;
  // One after the other in one tensor, so that a kernel can bind both at once.
  const both = (): Float64Array => {
    const { cos, sin } = rotaryTables(positions, headDim, ropeTheta);
    const numbers = new Float64Array(2 * T * half);
    numbers.set(cos);
    numbers.set(sin, T * half);
    return numbers;
  };
  const angles = fromHost(backend, both, [2 * T, half], dtype, "cos, sin");
  return { cos: angles.sliceRows(0, T), sin: angles.sliceRows(T, T) };
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
  const { rows } = batch;
  const { operands } = weights;
  const T = x.rows;
  const weight = (name: string): Parameter => weights.get(`model.layers.${layer}.${name}.weight`);
  const bias = (name: string): Parameter => weights.get(`model.layers.${layer}.${name}.bias`);
  const ofThree = (get: (name: string) => Parameter) =>
    [get("self_attn.q_proj"), get("self_attn.k_proj"), get("self_attn.v_proj")] as const;

  const given = {
    x,
    norm: weight("input_layernorm"),
    eps: rmsNormEps,
    weights: ofThree(weight),
    biases: ofThree(bias),
    rows,
  };
  const projected = (): readonly [q: Tensor, k: Tensor, v: Tensor] => {
    const h = rmsNorm(x, given.norm, rmsNormEps, rows, operands); // [T, C]
    const [q, k, v] = linearTriple(h, given.weights, given.biases, rows); // [T, H·D], [T, K·D] twice
    return [reshape(q, [T, H, D]), reshape(k, [T, K, D]), reshape(v, [T, K, D])];
  };
  const seen =
    cache === null ? rotated(...projected(), angles) : intoCache({ ...given, ...angles }, projected, cache, layer);
  // After the last layer's keys and values, only the tokens whose final states are wanted go on: N of T.
  const outputs = layer === config.numHiddenLayers - 1 ? batch.outputs : undefined;
  const own = outputs ?? batch;
  const [q0, x0] = outputs === undefined ? [seen.q, x] : [seen.q, x].map((all) => gatherRows(all, outputs.indices));
  // Mixed precision: where the projections read f16, attention does too, if the adapter has matrix units for it.
  const projection = weight("self_attn.q_proj");
  const isMixed = projection.kind === "tensor" && projection.half !== undefined;
  const inAttention = { operands: isMixed ? "f16" : "f32", output: operands, sequences: own.sequences } as const;
  const mixed = reshape(attention(q0, seen.keys, seen.values, own.spans, own.querySpans, inAttention), [
    q0.rows,
    H * D,
  ]);
  const output = weight("self_attn.o_proj");
  const norm = weight("post_attention_layernorm");
  const [gate, up, down] = [weight("mlp.gate_proj"), weight("mlp.up_proj"), weight("mlp.down_proj")];
  const inOne = afterAttention({ mixed, x: x0, output, norm, eps: rmsNormEps, gate, up, down, rows: own.rows });
  if (inOne !== null) return inOne;
  const attended = linear(mixed, output, null, own.rows, { residual: x0 }); // [N, C]
  const m = rmsNorm(attended, norm, rmsNormEps, own.rows, operands); // [N, C]
  const product = gatedLinear(m, gate, up, own.rows, operands); // [N, F]
  return linear(product, down, null, own.rows, { isLastReader: true, residual: attended }); // [N, C]
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

/** @param projected  the projections by themselves, if one dispatch does not do all of it */
function intoCache(
  given: AttentionInputs,
  projected: () => readonly [q: Tensor, k: Tensor, v: Tensor],
  { keys, values, slots, copies }: LayerCaches,
  layer: number,
): Attended {
  const target = { slots, keys: keys[layer], values: values[layer] };
  let q = beforeAttention(given, target);
  if (q === null) {
    const [queries, k, v] = projected();
    ropeIntoCache(queries, k, v, given.cos, given.sin, target);
    q = queries;
  }
  if (copies !== undefined) repeatSlots(target.keys, target.values, copies.from, copies.to);
  return { q, ...target };
}
