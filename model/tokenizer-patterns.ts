// Steps of a tokenizer.json that @huggingface/tokenizers 0.2.0 computes with JavaScript's own \s, \w and \d, or in a
// shortened form, written as regular expressions that mean what they mean in Hugging Face's Rust library.
//
// JavaScript's \s has U+FEFF and lacks U+0085, \d and \w are ASCII. The package translates regular expressions that stand in
// the file (there \s is Unicode's White_Space), but not the ones that it has inside: those of ByteLevel (GPT-2, SmolLM2),
// Whitespace, Digits, Punctuation and others. So these steps become `Split` with the pattern of the Rust library in the file.
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
 * A pre-tokenizer in steps that the package computes as the Rust library does.
 * @throws CheckpointError naming a way of splitting that the package would take for another
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
      // A space in front of what does not begin with one, before the text is cut. $& is what matched: an empty match (`\\A(?! )`)
      // would be found between the halves of a surrogate pair too, since V8 looks behind there.
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

/** A Split, or Punctuation with its pattern, of which the package knows two of the five behaviours. */
function cut(step: Json, where: string): Json {
  const behavior = String(step["behavior"] ?? "Isolated").toLowerCase();
  const { type, pattern } = step;
  if (behavior === "removed") return { ...step, type: "Split", invert: step["invert"] === true };
  // What a pattern matches and what lies between are kept both ways round.
  if (behavior === "isolated") return { type: "Split", pattern, behavior: "Isolated", invert: false };
  if (behavior === "contiguous" && type === "Punctuation") return split(`${punctuation}+`, "Isolated");
  throw new CheckpointError(
    `${where}: pre_tokenizer: ${String(type)} with behavior ${JSON.stringify(step["behavior"])} is not supported; ` +
      "Isolated and Removed are.",
  );
}

/** A normalizer, likewise. */
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
