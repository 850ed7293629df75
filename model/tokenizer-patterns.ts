// Replaces steps of a tokenizer.json that @huggingface/tokenizers 0.2.0 computes differently from Hugging Face's Rust
// library, because it uses JavaScript's \s, \w and \d or a simplified form. They become regular expressions with the
// library's meaning.
//
// JavaScript's \s includes U+FEFF and lacks U+0085; \d and \w are ASCII only. The package translates the regular
// expressions in the file (there \s is Unicode's White_Space), but not its built-in ones: those of ByteLevel (GPT-2,
// SmolLM2), Whitespace, Digits, Punctuation and others. So these steps are rewritten as `Split` with the pattern of the
// Rust library.
// Source: https://github.com/huggingface/tokenizers, tokenizers/src/pre_tokenizers and src/normalizers.
import { CheckpointError } from "../engine/host/index.ts";
import type { Json } from "./config.ts";

type Step = Json | null | undefined;

const gpt2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const punctuation = String.raw`[\p{P}$+<=>^${"`"}|~]`; // Unicode's and ASCII's
const word = String.raw`[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]`;

const split = (pattern: string, behavior: "Isolated" | "Removed"): Json => ({
  type: "Split",
  pattern: { Regex: pattern },
  behavior,
  invert: false,
});
const sequence = (...pretokenizers: Step[]): Json => ({ type: "Sequence", pretokenizers });
const steps = (value: unknown): Step[] => (Array.isArray(value) ? value : []);

/**
 * A pre-tokenizer, rewritten in steps that the package computes as the Rust library does.
 * @throws CheckpointError naming a way of splitting that the package would confuse with another
 */
export function preTokenizerInPatterns(step: Step, where: string): Step {
  if (step == null) return step;
  const { type } = step;
  switch (type) {
    case "Sequence":
      return { ...step, pretokenizers: steps(step["pretokenizers"]).map((one) => preTokenizerInPatterns(one, where)) };
    case "ByteLevel": {
      if (step["use_regex"] === false) return step;
      const bytes = { ...step, use_regex: false, add_prefix_space: false };
      // Puts a space in front of a text that does not begin with one, before the text is split. $& is the match. An
      // empty match (`\\A(?! )`) would not work: V8 also finds it between the halves of a surrogate pair.
      const prefix = { type: "Replace", pattern: { Regex: "\\A[^ ]" }, content: " $&" };
      return sequence(...(step["add_prefix_space"] === true ? [prefix] : []), split(gpt2, "Isolated"), bytes);
    }
    case "Whitespace":
      return sequence(split("\\s+", "Removed"), split(`${word}+`, "Isolated"));
    case "WhitespaceSplit":
      return split("\\s+", "Removed");
    case "BertPreTokenizer":
      return sequence(split("\\s+", "Removed"), split(punctuation, "Isolated"));
    case "Digits":
      return split(step["individual_digits"] === true ? "\\p{N}" : "\\p{N}+", "Isolated");
    case "Punctuation":
      return cut({ ...step, pattern: { Regex: punctuation } }, where);
    case "Split":
      return cut(step, where);
    case "Metaspace": {
      if (step["split"] === false) return step;
      const mark = typeof step["replacement"] === "string" ? step["replacement"] : "\u2581";
      return sequence(step, split(`${mark}[^${mark}]*`, "Isolated"));
    }
    default:
      return step;
  }
}

/** A Split, or a Punctuation as a Split. The package supports two of the five behaviours. */
function cut(step: Json, where: string): Json {
  const behavior = String(step["behavior"] ?? "Isolated").toLowerCase();
  const { type, pattern } = step;
  if (behavior === "removed") return { ...step, type: "Split", invert: step["invert"] === true };
  // Matches and the text between matches are both kept, so inverting changes nothing.
  if (behavior === "isolated") return { type: "Split", pattern, behavior: "Isolated", invert: false };
  if (behavior === "contiguous" && type === "Punctuation") return split(`${punctuation}+`, "Isolated");
  throw new CheckpointError(
    `${where}: pre_tokenizer: ${String(type)} with behavior ${JSON.stringify(step["behavior"])} is not supported; ` +
      "Isolated and Removed are.",
  );
}

/** A normalizer, rewritten in the same way. */
export function normalizerInPatterns(step: Step): Step {
  if (step == null) return step;
  switch (step["type"]) {
    case "Sequence":
      return { ...step, normalizers: steps(step["normalizers"]).map(normalizerInPatterns) };
    case "Strip": {
      const remove = (pattern: string): Json => ({ type: "Replace", pattern: { Regex: pattern }, content: "" });
      return {
        type: "Sequence",
        normalizers: [
          ...(step["strip_left"] === true ? [remove("\\A\\s+")] : []),
          ...(step["strip_right"] === true ? [remove("\\s+\\z")] : []),
        ],
      };
    }
    default:
      return step;
  }
}
