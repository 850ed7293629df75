// The added tokens of a tokenizer: those of tokenizer.json, and those that only the files beside it name. In Qwen's
// older folders, `<|im_start|>` is in the `added_tokens_decoder` of tokenizer_config.json. These files can also mark
// tokens as special.
//
// The order of steps is that of transformers 5.24 when it opens a tokenizer (tokenization_utils_base.py,
// `_from_pretrained`;
// tokenization_utils_tokenizers.py, `TokenizersBackend.__init__`; `add_tokens` of the Rust library):
// 1. `added_tokens_decoder`, in the order of its ids; if there is none, special_tokens_map.json and added_tokens.json.
// 2. Then the named special tokens (`eos_token` …) and the additional special tokens.
// A token that exists already keeps its id and gets the new flags, except that a special token stays special. A named
// token becomes special. A new token gets the next free id.
import { z } from "zod";
import { CheckpointError } from "../engine/host/index.ts";
import type { Json } from "./config.ts";

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly single_word: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
  readonly special: boolean;
}

/** The parsed files of a tokenizer; null for a file that does not exist. */
export interface TokenizerFiles {
  readonly tokenizer: Json;
  readonly config: Json | null;
  readonly specialTokensMap: Json | null;
  readonly addedTokens: Json | null;
}

const flags = {
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  normalized: z.boolean().optional(),
  special: z.boolean().default(false),
};
const described = z.object({ content: z.string(), ...flags });
/** A token that is given as plain text is special. */
const named = z.union([z.string().transform((content) => ({ content, special: true })), described]);
type Described = Partial<Omit<AddedToken, "id">> & { content: string };

const file = z.object({
  added_tokens: z.array(described.extend({ id: z.int().nonnegative() })).default([]),
  model: z.object({ vocab: z.union([z.record(z.string(), z.number()), z.array(z.unknown())]) }),
});
const decoder = z.record(z.string().regex(/^\d+$/), described);

const namedTokens = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const furtherTokens = ["additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens"];

/**
 * All added tokens, in the order of their ids.
 * @throws CheckpointError when a file cannot be understood, or gives a new token an id that is not the next free one
 */
export function addedTokens(files: TokenizerFiles, where: string): AddedToken[] {
  const { added_tokens: inFile, model } = parsed(file, files.tokenizer, `${where}/tokenizer.json`);
  const vocabulary = Array.isArray(model.vocab)
    ? new Map(model.vocab.map((entry, id) => [Array.isArray(entry) ? String(entry[0]) : "", id]))
    : new Map(Object.entries(model.vocab));
  const tokens = new Map(inFile.map((token) => [token.content, completed(token, token.id)]));
  const add = (token: Described, declared?: { id: number; by: string }): void => {
    const before = tokens.get(token.content);
    const id = before?.id ?? vocabulary.get(token.content) ?? nextId(tokens, vocabulary.size);
    const isNew = before === undefined && !vocabulary.has(token.content);
    if (isNew && declared !== undefined && declared.id !== id)
      throw new CheckpointError(
        `${declared.by}: expected the next free id, ${id}, for the new token ${JSON.stringify(token.content)}, got ` +
          `${declared.id}. Are this file and tokenizer.json from one model?`,
      );
    const all = completed(token, id);
    tokens.set(token.content, { ...all, special: all.special || before?.special === true });
  };

  const config = files.config ?? {};
  const isNewStyle = config["added_tokens_decoder"] != null;
  const settings = isNewStyle ? config : { ...config, ...(files.specialTokensMap ?? {}) };
  const names = namedTokens.flatMap((key) =>
    settings[key] == null ? [] : [parsed(named, settings[key], at(where, key))],
  );
  const further = furtherTokens.flatMap((key) => {
    const value = settings[key];
    const list = Array.isArray(value) ? value : value != null && typeof value === "object" ? Object.values(value) : [];
    return list.map((token) => parsed(named, token, at(where, key)));
  });
  const isNamed = new Set(names.map(({ content }) => content));
  if (isNewStyle) {
    const by = at(where, "added_tokens_decoder");
    const entries = Object.entries(parsed(decoder, config["added_tokens_decoder"], by));
    for (const [id, token] of entries.sort(([a], [b]) => Number(a) - Number(b)))
      add({ ...token, special: token.special || isNamed.has(token.content) }, { id: Number(id), by });
  } else {
    const by = `${where}/added_tokens.json`;
    const entries = Object.entries(parsed(z.record(z.string(), z.int()), files.addedTokens ?? {}, by));
    for (const [content, id] of entries.sort(([, a], [, b]) => a - b))
      if (!tokens.has(content)) add({ content, special: isNamed.has(content) }, { id, by });
    for (const token of tokens.values()) if (isNamed.has(token.content)) add({ ...token, special: true });
  }
  for (const token of [...names, ...further]) if (!tokens.has(token.content)) add({ ...token, special: true });
  return [...tokens.values()].sort((a, b) => a.id - b.id);
}

function completed(token: Described, id: number): AddedToken {
  const { content, single_word = false, lstrip = false, rstrip = false, special = false } = token;
  if (single_word)
    throw new CheckpointError(`the added token ${JSON.stringify(content)} has single_word, which is not supported.`);
  return { id, content, single_word, lstrip, rstrip, special, normalized: token.normalized ?? !special };
}

/** The next free id, as in the Rust library: after the last added token, or after the vocabulary if that ends later. */
function nextId(tokens: ReadonlyMap<string, AddedToken>, vocabularySize: number): number {
  let next = vocabularySize;
  for (const { id } of tokens.values()) next = Math.max(next, id + 1);
  return next;
}

function at(where: string, key: string): string {
  return `${where}/tokenizer_config.json: ${key}`;
}

function parsed<T>(schema: z.ZodType<T>, value: unknown, where: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new CheckpointError(
    `${where}: expected the form of Hugging Face's tokenizers:\n${z.prettifyError(result.error)}`,
  );
}
