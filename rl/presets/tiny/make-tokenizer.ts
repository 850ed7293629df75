// Writes all files of the tiny checkpoint except its weights: tokenizer.json, tokenizer_config.json, config.json and
// generation_config.json.
//
//   node rl/presets/tiny/make-tokenizer.ts [FOLDER]      (default: checkpoint/ beside this file)
//
// The tokenizer has Qwen2's form, so that transformers, vLLM and this project read it in the same way: NFC, Qwen's
// regular expression, bytes. It has no merges; instead each phrase of the task and each part of a name is one token, so
// an Alphabet-sort episode of two turns has about 73 tokens. Any other text works too, byte by byte.
//
// Two traps:
// 1. " // new name!" must not include the newline after it, or "\n</combined_alphabetical_sorted>" is split into bytes.
// 2. transformers 5 uses Qwen's regular expression for every model of type qwen2, whatever tokenizer.json says: so it
//    is used here too, and the phrases are added tokens, which are cut out before the expression applies.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { firstNames, lastNames } from "../../../rl/index.ts";

const specialTokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

const phrases = [
  "user\n",
  "assistant\n",
  "Sort these names in alphabetical order by ",
  "Now sort ALL of these names alphabetically by ",
  "FIRST",
  "LAST",
  " name: ",
  ", ",
  "\n\nThese are in addition to the prior list. Mark any NEW names (that weren't in the prior list) with " +
    "`// new name!` at the end.",
  "\n\nUse exactly this format:\n",
  "Name",
  " // new name!",
  "<alphabetical_sorted>\n",
  "\n</alphabetical_sorted>",
  "<combined_alphabetical_sorted>\n",
  "\n</combined_alphabetical_sorted>",
];

const qwenPattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

// Unlike Qwen's template, it has no default system message, which would be a third of the prompt.
const chatTemplate =
  "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}" +
  "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/**
 * The 256 characters that stand for bytes in a byte-level tokenizer (GPT-2's): printable Latin-1 for itself, every other
 * byte for the next character from U+0100 on. Sorted by character, which is the order of their ids in GPT-2 and Qwen2.
 */
function byteCharacters(): string[] {
  const printable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xff && byte !== 0xad);
  let next = 0x100;
  const codes = Array.from({ length: 256 }, (_, byte) => (printable(byte) ? byte : next++));
  return codes.sort((a, b) => a - b).map((code) => String.fromCharCode(code));
}

const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };

/** The files by name, as text. */
export function tinyFiles(): Map<string, string> {
  const bytes = byteCharacters();
  const names = [...firstNames, ...lastNames].sort();
  const added = [...specialTokens, ...phrases, ...names].map((content, i) => ({
    id: bytes.length + i,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: i < specialTokens.length,
  }));
  const idOf = (content: string) => bytes.length + specialTokens.indexOf(content);
  const endOfText = idOf("<|endoftext|>");
  const endOfTurn = idOf("<|im_end|>");
  const files: Record<string, object> = {
    "tokenizer.json": {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: { type: "NFC" },
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          { type: "Split", pattern: { Regex: qwenPattern }, behavior: "Isolated", invert: false },
          byteLevel,
        ],
      },
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(bytes.map((character, id) => [character, id])),
        merges: [],
      },
    },
    "tokenizer_config.json": {
      tokenizer_class: "PreTrainedTokenizerFast",
      eos_token: "<|im_end|>",
      pad_token: "<|endoftext|>",
      clean_up_tokenization_spaces: false,
      model_max_length: 512,
      chat_template: chatTemplate,
    },
    "config.json": {
      architectures: ["Qwen2ForCausalLM"],
      model_type: "qwen2",
      vocab_size: bytes.length + added.length,
      hidden_size: 64,
      intermediate_size: 192,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      hidden_act: "silu",
      max_position_embeddings: 512,
      rms_norm_eps: 1e-6,
      rope_theta: 10000.0,
      tie_word_embeddings: true,
      use_sliding_window: false,
      attention_dropout: 0.0,
      bos_token_id: endOfText,
      eos_token_id: endOfTurn,
      torch_dtype: "float32",
    },
    "generation_config.json": {
      bos_token_id: endOfText,
      eos_token_id: [endOfTurn, endOfText],
      pad_token_id: endOfText,
      do_sample: true,
      temperature: 1.0,
    },
  };
  return new Map(Object.entries(files).map(([name, json]) => [name, `${JSON.stringify(json, null, 2)}\n`]));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = process.argv[2] ?? fileURLToPath(new URL("./checkpoint", import.meta.url));
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of tinyFiles()) writeFileSync(join(folder, name), text);
  console.log(`Wrote ${[...tinyFiles().keys()].join(", ")} to ${folder}`);
}
