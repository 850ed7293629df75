// Reads a Llama as a Qwen2. Both have RMSNorm, rotary angles, grouped-query attention and SwiGLU. Qwen2 has biases on
// q, k and v, Llama has none, so a Llama is a Qwen2 whose biases are zero.
//
// Settings that would make a difference are refused by name: biases of the output projection and of the MLP, and scaled
// rotary angles (Llama 3.1 and later). Defaults are those of transformers' LlamaConfig.
import { CheckpointError } from "../engine/host/index.ts";
import type { Json } from "./config.ts";

/** Whether a config.json describes a Llama. */
export function isLlama(json: Json): boolean {
  return json["model_type"] === "llama";
}

/** Defaults of transformers' LlamaConfig for keys for which Qwen2Config has a different default or none. */
const defaults = { bos_token_id: 1, eos_token_id: 2, max_position_embeddings: 2048 } as const;

/**
 * The keys with which a Llama declares biases, and why each is refused. A Qwen2's config.json does not have these keys.
 */
const biases = {
  attention_bias: "the output projection would have a bias too, and Qwen2 has none there",
  mlp_bias: "the MLP has no biases in Qwen2",
} as const;

const architectures = ["LlamaForCausalLM", "LlamaModel"];

/**
 * config.json of the Qwen2 that computes what this Llama computes, its biases on q, k and v being zero.
 * @param json  config.json with model_type "llama"
 * @param where its path, for messages
 * @throws CheckpointError naming every setting that a Qwen2 cannot have
 */
export function qwen2OfLlama(json: Json, where: string): Json {
  const faults = Object.entries(biases).flatMap(([key, why]) =>
    json[key] == null || json[key] === false
      ? []
      : [`${key}: expected false, got ${JSON.stringify(json[key])}: ${why}`],
  );
  const named = json["architectures"];
  const other = Array.isArray(named) ? named.filter((name) => !architectures.includes(name)) : [];
  if (other.length > 0) faults.push(`architectures: expected ${architectures[0]}, got ${JSON.stringify(other[0])}`);
  if (faults.length > 0)
    throw new CheckpointError(`${where}: this Llama does not equal a Qwen2 with zero biases. ${faults.join("; ")}`);
  const leftOut = ["pretraining_tp", ...Object.keys(biases)];
  return {
    ...defaults,
    num_key_value_heads: json["num_attention_heads"],
    ...Object.fromEntries(
      Object.entries(json).filter(
        // A size of null counts as absent. A token id of null means that there is no such token.
        ([key, value]) => !leftOut.includes(key) && (value !== null || key.endsWith("_token_id")),
      ),
    ),
    architectures: ["Qwen2ForCausalLM"],
    model_type: "qwen2",
  };
}
