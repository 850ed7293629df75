// Checks config.json of Qwen2 and Qwen2.5. Settings that the model code cannot compute are refused by name: if they
// were silently ignored, the model would run and answer wrongly. A Llama's config.json is first turned into a Qwen2's
// (llama.ts).
//
// Two spellings are in use: published checkpoints have `rope_theta` and `torch_dtype`; transformers 5 writes
// `rope_parameters.rope_theta` and `dtype`. Defaults are those of transformers' Qwen2Config.
import { z } from "zod";
import { CheckpointError } from "../engine/host/index.ts";

/** The content of a JSON file that is an object, unchecked. */
export type Json = Readonly<Record<string, unknown>>;

/** A Qwen2 model in numbers; names as in Hugging Face's config.json. */
export interface Qwen2Config {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  /** Size of one head: hidden_size / num_attention_heads unless the file says otherwise. Even, for the rotary pairs. */
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
  readonly ropeTheta: number;
  readonly rmsNormEps: number;
  readonly tieWordEmbeddings: boolean;
  /**
   * Tokens that end an answer. As in transformers, those of generation_config.json if it names any, else config.json's.
   */
  readonly eosTokenIds: readonly number[];
}

/**
 * The part of generation_config.json that a run uses. Sampling values are not read; they come from the run's settings.
 */
export interface GenerationConfig {
  readonly eosTokenIds: readonly number[];
}

const size = z.number().int().positive();
const tokenId = z.number().int().nonnegative();
const tokenIds = z.union([tokenId.transform((id) => [id]), z.array(tokenId)], {
  error: ({ input }) => `expected a token id or a list of them, got ${show(input)}`,
});

// A field with one supported value: absent or null is that value.
const only = <T extends string | number | boolean>(value: T, why: string) =>
  z.literal(value, { error: ({ input }) => `expected ${show(value)}, got ${show(input)}: ${why}` }).nullish();

// Any other key is refused, since it can change the angles: scaling factors, or a table per type of layer.
const rope = z
  .object({
    rope_theta: z.number().positive().nullish(),
    rope_type: only("default", "scaled rotary angles are not supported"),
    type: only("default", "scaled rotary angles are not supported"),
    partial_rotary_factor: only(1, "the whole head is rotated"),
  })
  .catchall(z.null({ error: ({ input }) => `expected no such key, got ${show(input)}: this key is not supported` }));

const fileSchema = z.object({
  model_type: z.literal("qwen2", {
    error: ({ input }) =>
      `expected "qwen2" or "llama", got ${show(input)}: only Qwen2, Qwen2.5 and Llama are supported`,
  }),
  architectures: z
    .array(
      z.enum(["Qwen2ForCausalLM", "Qwen2Model"], {
        error: ({ input }) => `expected Qwen2ForCausalLM, got ${show(input)}: only language models are supported`,
      }),
    )
    .nullish(),
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size,
  head_dim: size.nullish(),
  max_position_embeddings: size,
  rms_norm_eps: z.number().positive().default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  rope_theta: z.number().positive().nullish(),
  rope_parameters: rope.nullish(),
  rope_scaling: rope.nullish(),
  eos_token_id: tokenIds.nullish(),
  hidden_act: only("silu", "the MLP is SwiGLU"),
  attention_bias: only(true, "q, k and v have biases in Qwen2"),
  mlp_bias: only(false, "the MLP has no biases in Qwen2"),
  attention_dropout: only(0, "dropout is not supported"),
  use_sliding_window: only(false, "attention reaches back over all tokens"),
  use_mrope: only(false, "positions are one-dimensional"),
  layer_types: z.array(only("full_attention", "attention reaches back over all tokens")).nullish(),
  quantization_config: z
    .null({
      error: () => "expected none: quantised weights are not supported, use the checkpoint they were made from",
    })
    .optional(),
});

function show(value: unknown): string {
  return value === undefined ? "nothing" : JSON.stringify(value);
}

/**
 * Parses config.json.
 * @param json  the parsed file
 * @param where its path, for messages
 * @throws CheckpointError listing everything that is missing, wrong or unsupported
 */
export function parseConfig(json: unknown, where: string): Qwen2Config {
  const file = check(fileSchema, json, where);
  const thetas = [file.rope_theta, file.rope_parameters?.rope_theta, file.rope_scaling?.rope_theta].filter(
    (t) => t != null,
  );
  const headDim = file.head_dim ?? file.hidden_size / file.num_attention_heads;
  const eosTokenIds = file.eos_token_id ?? [];
  const faults: string[] = [];
  if (new Set(thetas).size > 1) faults.push(`rope_theta: expected one value, got ${thetas.join(" and ")}`);
  if (headDim % 2 !== 0)
    faults.push(
      `num_attention_heads: expected heads of an even size, got hidden_size ${file.hidden_size} / ` +
        `num_attention_heads ${file.num_attention_heads} = ${headDim}`,
    );
  if (file.num_attention_heads % file.num_key_value_heads !== 0)
    faults.push(
      `num_key_value_heads: expected a divisor of num_attention_heads ${file.num_attention_heads}, ` +
        `got ${file.num_key_value_heads}`,
    );
  if (file.layer_types != null && file.layer_types.length !== file.num_hidden_layers)
    faults.push(
      `layer_types: expected num_hidden_layers ${file.num_hidden_layers} entries, got ${file.layer_types.length}`,
    );
  for (const id of eosTokenIds)
    if (id >= file.vocab_size) faults.push(`eos_token_id: expected ids below vocab_size ${file.vocab_size}, got ${id}`);
  if (faults.length > 0) refuse(where, faults);
  return {
    vocabSize: file.vocab_size,
    hiddenSize: file.hidden_size,
    intermediateSize: file.intermediate_size,
    numHiddenLayers: file.num_hidden_layers,
    numAttentionHeads: file.num_attention_heads,
    numKeyValueHeads: file.num_key_value_heads,
    headDim,
    maxPositionEmbeddings: file.max_position_embeddings,
    ropeTheta: thetas[0] ?? 10_000,
    rmsNormEps: file.rms_norm_eps,
    tieWordEmbeddings: file.tie_word_embeddings,
    eosTokenIds,
  };
}

/** Parses generation_config.json. @throws CheckpointError when the end tokens are not token ids */
export function parseGenerationConfig(json: unknown, where: string): GenerationConfig {
  const file = check(z.object({ eos_token_id: tokenIds.nullish() }), json, where);
  return { eosTokenIds: file.eos_token_id ?? [] };
}

function check<T>(schema: z.ZodType<T>, json: unknown, where: string): T {
  const parsed = schema.safeParse(json, {
    error: (issue) =>
      issue.code === "invalid_type"
        ? `expected ${issue.expected}, got ${show(issue.input)}`
        : issue.code === "too_small"
          ? `expected ${issue.inclusive ? "at least" : "more than"} ${issue.minimum}, got ${show(issue.input)}`
          : undefined,
  });
  if (parsed.success) return parsed.data;
  return refuse(
    where,
    parsed.error.issues.map(({ path, message }) => `${path.join(".") || "the file"}: ${message}`),
  );
}

function refuse(where: string, faults: readonly string[]): never {
  throw new CheckpointError(
    `${where}: ${faults.length === 1 ? faults[0] : `${faults.length} faults:${faults.map((fault) => `\n  ${fault}`).join("")}`}`,
  );
}

/**
 * Every parameter with its shape, by Hugging Face's names, in the order of the module tree (`named_parameters`).
 * Matrices are [out, in]. `lm_head.weight` is absent if the head is tied to the embedding.
 */
export function qwen2ParameterShapes(config: Qwen2Config): Map<string, readonly number[]> {
  const { hiddenSize, intermediateSize, headDim, vocabSize } = config;
  const queryWidth = config.numAttentionHeads * headDim;
  const keyWidth = config.numKeyValueHeads * headDim;
  const shapes = new Map<string, readonly number[]>();
  shapes.set("model.embed_tokens.weight", [vocabSize, hiddenSize]);
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const at = (name: string, ...shape: number[]) => shapes.set(`model.layers.${layer}.${name}`, shape);
    at("self_attn.q_proj.weight", queryWidth, hiddenSize);
    at("self_attn.q_proj.bias", queryWidth);
    at("self_attn.k_proj.weight", keyWidth, hiddenSize);
    at("self_attn.k_proj.bias", keyWidth);
    at("self_attn.v_proj.weight", keyWidth, hiddenSize);
    at("self_attn.v_proj.bias", keyWidth);
    at("self_attn.o_proj.weight", hiddenSize, queryWidth);
    at("mlp.gate_proj.weight", intermediateSize, hiddenSize);
    at("mlp.up_proj.weight", intermediateSize, hiddenSize);
    at("mlp.down_proj.weight", hiddenSize, intermediateSize);
    at("input_layernorm.weight", hiddenSize);
    at("post_attention_layernorm.weight", hiddenSize);
  }
  shapes.set("model.norm.weight", [hiddenSize]);
  if (!config.tieWordEmbeddings) shapes.set("lm_head.weight", [vocabSize, hiddenSize]);
  return shapes;
}

/** Whether a parameter is the [out, in] matrix of a linear layer, the head included; the embedding is not. */
export function isLinearWeight(name: string): boolean {
  return name.endsWith("_proj.weight") || name === "lm_head.weight";
}
