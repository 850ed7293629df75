// Text to token ids and back, by Hugging Face's own tokenizer for JavaScript. Around it are the few things that a model
// needs: tokens that only the files beside tokenizer.json name (added-tokens.ts), steps that the package computes differently
// from the Rust library (tokenizer-patterns.ts), ids that the tokenizer does not know (Qwen2.5 has more rows than tokens) or
// the model does not, the empty list, and text that is shown while it is being generated.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { asError, CheckpointError } from "../engine/host/index.ts";
import { type AddedToken, addedTokens } from "./added-tokens.ts";
import { readModelJson } from "./checkpoint-files.ts";
import type { Json } from "./config.ts";
import { normalizerInPatterns, preTokenizerInPatterns } from "./tokenizer-patterns.ts";

export interface DecodeOptions {
  /** Leave out tokens such as `<|im_end|>` (default false). */
  skipSpecialTokens?: boolean;
}

/**
 * What is used of Hugging Face's tokenizer. Written out here, since the package's own types do not compile under TypeScript's
 * Node resolution, which whoever compiles against us may have switched on.
 */
export interface TokenizerParts {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: number[], options: { clean_up_tokenization_spaces: boolean }): string;
  id_to_token(id: number): string | undefined;
  token_to_id(token: string): number | undefined;
  get_vocab(): { readonly size: number };
}

/** The model that a tokenizer was loaded with. */
interface ModelOfTokenizer {
  readonly folder: string;
  /** Rows of its embedding: ids are below. */
  readonly rows: number;
}

/** The tokenizer of a model folder. */
export class Tokenizer {
  /** Ids of the special tokens; their text in a prompt stands for them. */
  readonly specialIds: ReadonlySet<number>;
  readonly #inner: TokenizerParts;
  readonly #model: ModelOfTokenizer | null;

  /** @param model  the model whose rows the ids must fit; null when there is none */
  constructor(inner: TokenizerParts, added: readonly AddedToken[], model: ModelOfTokenizer | null) {
    this.#inner = inner;
    this.#model = model;
    this.specialIds = new Set(added.filter(({ special }) => special).map(({ id }) => id));
  }

  /**
   * Token ids of a text, with nothing put in front or behind. A special token in the text becomes its id.
   * @throws CheckpointError when the text has a token for which the model has no row
   */
  encode(text: string): number[] {
    return this.#encode(text, false);
  }

  /**
   * Token ids of a text as a prompt of its own: with what the tokenizer puts in front or behind (`post_processor` in
   * tokenizer.json), which is a start token for Llama and nothing for Qwen2.5. A chat template writes such tokens itself.
   * @throws CheckpointError when the text has a token for which the model has no row
   */
  encodePrompt(text: string): number[] {
    return this.#encode(text, true);
  }

  #encode(text: string, add_special_tokens: boolean): number[] {
    const { ids } = this.#inner.encode(text, { add_special_tokens });
    // The package gives `undefined` for an unknown word of a WordLevel vocabulary whose unknown token has no id.
    const unknown = ids.findIndex((id) => !Number.isInteger(id));
    if (unknown >= 0)
      throw new CheckpointError(
        `${this.#model?.folder ?? "tokenizer"}: the tokenizer gives no id for token ${unknown} of ${JSON.stringify(text.slice(0, 80))}. ` +
          "Its vocabulary has no entry for that text.",
      );
    if (this.#model !== null) for (const id of ids) if (id >= this.#model.rows) this.#refuse(id, this.#model);
    return ids;
  }

  #refuse(id: number, { folder, rows }: ModelOfTokenizer): never {
    throw new CheckpointError(
      `${folder}: a text has the token ${JSON.stringify(this.#inner.id_to_token(id))}, whose id is ${id}, and the model has ` +
        `${rows} rows (vocab_size in config.json). Resize the model's embedding to its tokenizer, or leave out that token.`,
    );
  }

  /**
   * Text of token ids. Bytes that are no UTF-8 become U+FFFD; ids that no token has stand for nothing, as in Hugging Face's
   * libraries: a model may have more rows than its tokenizer has tokens.
   */
  decode(ids: Iterable<number>, { skipSpecialTokens = false }: DecodeOptions = {}): string {
    const shown = [...ids].filter(
      (id) => this.#inner.id_to_token(id) !== undefined && !(skipSpecialTokens && this.specialIds.has(id)),
    );
    // The package cannot decode an empty list, and by default removes spaces before punctuation: no text is changed here.
    return shown.length === 0 ? "" : this.#inner.decode(shown, { clean_up_tokenization_spaces: false });
  }

  /** How many tokens there are; a model may have more rows. */
  get size(): number {
    return this.#inner.get_vocab().size;
  }

  /** The id of a token by its exact text, undefined when there is none. */
  idOf(token: string): number | undefined {
    return this.#inner.token_to_id(token);
  }

  /** Decodes ids as they come. */
  stream(options: DecodeOptions = {}): TextStream {
    return new TextStream(this, options);
  }
}

/** Up to so many waiting ids are decoded again with each new one: no character has more bytes, so none waits longer. */
const shortWait = 8;

/**
 * Text while it is generated: a character is given out when all its bytes are there, so nobody sees half of one. All that
 * was given out, joined, is what `decode` makes of all ids.
 *
 * While the text ends in half a character its ids wait, and are decoded again with the next one. A long wait holds bytes that
 * are no text; then that is done only when the new id ends a character by itself, or when the wait has doubled. So decoding
 * takes time in proportion to the number of ids, whatever they are.
 */
export class TextStream {
  readonly #tokenizer: Tokenizer;
  readonly #options: DecodeOptions;
  // Ids since the last complete character, and how much of their text was given out.
  #waiting: number[] = [];
  #given = 0;
  // How many ids wait when they are decoded next, whatever they end in.
  #next = 0;

  constructor(tokenizer: Tokenizer, options: DecodeOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  /** What can be shown after this id too; "" within a character. */
  push(id: number): string {
    this.#waiting.push(id);
    if (this.#waiting.length > shortWait && this.#waiting.length < this.#next && !this.#endsCharacter(id)) return "";
    this.#next = 2 * this.#waiting.length;
    const text = this.#tokenizer.decode(this.#waiting, this.#options);
    // U+FFFD at the end: bytes that the next token may complete. Elsewhere it is final.
    const complete = text.replace(/\ufffd+$/, "");
    const shown = complete.slice(this.#given);
    this.#given = complete.length;
    if (complete.length === text.length) this.#clear();
    return shown;
  }

  /** What is left at the end of an answer: bytes that nothing completed, as U+FFFD. */
  end(): string {
    const shown = this.#tokenizer.decode(this.#waiting, this.#options).slice(this.#given);
    this.#clear();
    return shown;
  }

  #endsCharacter(id: number): boolean {
    const own = this.#tokenizer.decode([id], this.#options);
    return own !== "" && !own.endsWith("\ufffd");
  }

  #clear(): void {
    this.#waiting = [];
    this.#given = 0;
    this.#next = 0;
  }
}

const object = z.record(z.string(), z.unknown());

/**
 * Reads tokenizer.json and, where they are there, tokenizer_config.json, special_tokens_map.json and added_tokens.json. Where
 * the folder has a config.json, the tokenizer is held against it: every command that opens a model comes by here.
 * @throws CheckpointError when a file is missing or damaged, or the tokenizer is of a model with more rows
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const path = join(folder, "tokenizer.json");
  if (!existsSync(path)) throw new CheckpointError(`${path}: not found. ${whereToGetIt(folder)}`);
  const json = (name: string) => {
    const file = join(folder, name);
    return existsSync(file) ? parsedObject(readModelJson(file), file) : null;
  };
  const tokenizer = parsedObject(readModelJson(path), path);
  const config = json("tokenizer_config.json");
  const others = { specialTokensMap: json("special_tokens_map.json"), addedTokens: json("added_tokens.json") };
  const added = addedTokens({ tokenizer, config, ...others }, folder);
  const definition = {
    ...tokenizer,
    // The package looks for tokens in the text before or after it is normalised; special ones are always looked for before.
    added_tokens: added.map((token) => ({ ...token, normalized: token.normalized && !token.special })),
    normalizer: normalizerInPatterns(step(tokenizer, "normalizer", path)),
    pre_tokenizer: preTokenizerInPatterns(step(tokenizer, "pre_tokenizer", path), path),
  };
  let inner: HuggingFaceTokenizer;
  try {
    inner = new HuggingFaceTokenizer(definition, config ?? {});
  } catch (error) {
    throw new CheckpointError(`${path}: expected a tokenizer of Hugging Face's: ${asError(error).message}`, {
      cause: error,
    });
  }
  const model = modelOf(folder);
  if (model !== null) expectRows(inner, model);
  return new Tokenizer(inner, added, model);
}

function parsedObject(json: unknown, path: string): Json {
  const parsed = object.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new CheckpointError(`${path}: expected a JSON object.`);
}

function step(tokenizer: Json, key: string, path: string): Json | null {
  return tokenizer[key] == null ? null : parsedObject(tokenizer[key], `${path}: ${key}`);
}

function modelOf(folder: string): ModelOfTokenizer | null {
  const path = join(folder, "config.json");
  if (!existsSync(path)) return null;
  const parsed = z.object({ vocab_size: z.int().positive() }).safeParse(readModelJson(path));
  return parsed.success ? { folder, rows: parsed.data.vocab_size } : null;
}

/** Any text may have any of the ordinary tokens, so the model must have a row for each. Added ones are met where they occur. */
function expectRows(inner: HuggingFaceTokenizer, { folder, rows }: ModelOfTokenizer): void {
  let tokens = 0;
  for (const id of inner.get_vocab(false).values()) tokens = Math.max(tokens, id + 1);
  if (tokens > rows)
    throw new CheckpointError(
      `${folder}: tokenizer.json has ${tokens} tokens, config.json gives the model ${rows} rows (vocab_size). Are both from ` +
        "one model? Take the tokenizer that belongs to the weights.",
    );
}

// A model of the hub lies in the cache, whose folders are not the user's to fill.
function whereToGetIt(folder: string): string {
  return /[\\/]models--[^\\/]+[\\/]snapshots[\\/][0-9a-f]{40}[\\/]*$/.test(folder)
    ? "The cache of models has no tokenizer for it. If HF_HUB_OFFLINE is set, or the hub could not be reached, unset it " +
        "once and try again: the tokenizer is then fetched. If it still lacks, the model has none on the hub: save one " +
        "with it in a folder of yours (tokenizer.save_pretrained)."
    : "Save the tokenizer beside the model (tokenizer.save_pretrained), or copy it from the original.";
}
