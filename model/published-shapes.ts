// The shapes in which Qwen2.5 is published, as their config.json: a model of one of them can be made or planned for without
// a download. Numbers as in the Instruct models of https://huggingface.co/Qwen.

interface Shape {
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  vocab_size: number;
  tie_word_embeddings: boolean;
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
  },
  "qwen2.5-1.5b": {
    hidden_size: 1536,
    intermediate_size: 8960,
    num_hidden_layers: 28,
    num_attention_heads: 12,
    num_key_value_heads: 2,
    vocab_size: 151_936,
    tie_word_embeddings: true,
  },
  "qwen2.5-3b": {
    hidden_size: 2048,
    intermediate_size: 11_008,
    num_hidden_layers: 36,
    num_attention_heads: 16,
    num_key_value_heads: 2,
    vocab_size: 151_936,
    tie_word_embeddings: true,
  },
  "qwen2.5-7b": {
    hidden_size: 3584,
    intermediate_size: 18_944,
    num_hidden_layers: 28,
    num_attention_heads: 28,
    num_key_value_heads: 4,
    vocab_size: 152_064,
    tie_word_embeddings: false,
  },
} as const satisfies Record<string, Shape>;

export const publishedShapes: readonly string[] = Object.keys(shapes);

/** config.json of a published shape, in any case of its name; null for a name that is none. */
export function publishedConfig(name: string): Readonly<Record<string, unknown>> | null {
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
    use_sliding_window: false,
    ...found[1],
  };
}
