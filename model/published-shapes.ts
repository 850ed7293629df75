// The sizes in which Qwen2.5 is published, as config.json: models of these sizes can be made, and memory planned,
// without a download. Numbers as in the Instruct models of https://huggingface.co/Qwen. Also the keys that all of these
// files have.
import { type Json, parseConfig } from "./config.ts";

interface Shape {
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  vocab_size: number;
  tie_word_embeddings: boolean;
  sliding_window: number;
  max_window_layers: number;
}

const shapes = {
  "qwen2.5-0.5b": {
    hidden_size: 896,
    intermediate_size: 4864,
    num_hidden_layers: 24,
    num_attention_heads: 14,
    num_key_value_heads: 2,
    vocab_size: 151_936,
    tie_word_embeddings: true,
    sliding_window: 32_768,
    max_window_layers: 21,
  },
  "qwen2.5-1.5b": {
    hidden_size: 1536,
    intermediate_size: 8960,
    num_hidden_layers: 28,
    num_attention_heads: 12,
    num_key_value_heads: 2,
    vocab_size: 151_936,
    tie_word_embeddings: true,
    sliding_window: 32_768,
    max_window_layers: 21,
  },
  "qwen2.5-3b": {
    hidden_size: 2048,
    intermediate_size: 11_008,
    num_hidden_layers: 36,
    num_attention_heads: 16,
    num_key_value_heads: 2,
    vocab_size: 151_936,
    tie_word_embeddings: true,
    sliding_window: 32_768,
    max_window_layers: 70,
  },
  "qwen2.5-7b": {
    hidden_size: 3584,
    intermediate_size: 18_944,
    num_hidden_layers: 28,
    num_attention_heads: 28,
    num_key_value_heads: 4,
    vocab_size: 152_064,
    tie_word_embeddings: false,
    sliding_window: 131_072,
    max_window_layers: 28,
  },
} as const satisfies Record<string, Shape>;

export const publishedShapes: readonly string[] = Object.keys(shapes);

/** config.json of a published shape by its name, in upper or lower case; null for an unknown name. */
export function publishedConfig(name: string): Json | null {
  const found = Object.entries(shapes).find(([known]) => known === name.toLowerCase());
  if (found === undefined) return null;
  return {
    architectures: ["Qwen2ForCausalLM"],
    attention_dropout: 0,
    bos_token_id: 151_643,
    eos_token_id: 151_645,
    hidden_act: "silu",
    initializer_range: 0.02,
    max_position_embeddings: 32_768,
    model_type: "qwen2",
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000,
    torch_dtype: "float32",
    use_cache: true,
    use_sliding_window: false,
    ...found[1],
  };
}

/**
 * config.json with every key that published Qwen2.5 models have, except `transformers_version`. Without some of these
 * keys other programs refuse the file (candle needs `sliding_window`) or use different defaults (transformers 4 needs
 * `rope_theta`). An added key has the value that its absence meant. Sliding windows are off; the two sizes of the
 * window are set so large that they would have no effect.
 * @param json  config.json of a Qwen2; existing keys are unchanged
 * @throws CheckpointError when the file is not valid
 */
export function withPublishedKeys(json: Json, where: string): Json {
  const config = parseConfig(json, where);
  const meanings = {
    architectures: ["Qwen2ForCausalLM"],
    attention_dropout: 0,
    bos_token_id: null,
    eos_token_id: null,
    hidden_act: "silu",
    initializer_range: 0.02,
    max_window_layers: config.numHiddenLayers,
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    sliding_window: config.maxPositionEmbeddings,
    tie_word_embeddings: config.tieWordEmbeddings,
    torch_dtype: json["dtype"] ?? "float32",
    use_cache: true,
    use_sliding_window: false,
  };
  const added = Object.entries(meanings).filter(([key]) => json[key] == null);
  return { ...json, ...Object.fromEntries(added) };
}

/**
 * config.json of a model on the hub if it is one of these sizes; null for any other name. The revision is ignored.
 * @param name  "Qwen/Qwen2.5-0.5B-Instruct", or with @REVISION
 */
export function publishedConfigOf(name: string): Json | null {
  const size = /^Qwen\/(Qwen2\.5-[\d.]+B)(?:-Instruct)?(?:@.+)?$/.exec(name)?.[1];
  return size === undefined ? null : publishedConfig(size);
}
